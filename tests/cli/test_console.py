"""What is printed can't forge lines or move the cursor."""

import pytest

from memcram.cli.console import print_fields, print_table


@pytest.mark.parametrize("show", [print_fields, lambda f: print_table(["a"], [[f["recipe"]]])])
def test_text_from_outside_stays_on_its_line(show, capsys):
    show({"recipe": "x\nrestored   yes\x1b[31m\u2028\u202eü 小"})
    out, _ = capsys.readouterr()
    assert out.count("\n") == (2 if out.split()[0] == "a" else 1)
    assert not {"\x1b", "\u2028", "\u202e"} & set(out)
    assert r"x\nrestored   yes\x1b[31m\u2028\u202eü 小" in out
