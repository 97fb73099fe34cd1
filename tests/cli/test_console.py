"""What is printed can't forge lines or move the cursor."""

import pytest

from memcram.cli.console import print_fields, print_table


@pytest.mark.parametrize("show", [print_fields, lambda f: print_table(["a"], [[f["recipe"]]])])
def test_text_from_outside_stays_on_its_line(show, capsys):
    show({"recipe": "x\nrestored   yes\x1b[31m\u2028\u202eü 小"})
    out, _ = capsys.readouterr()
    assert out.rstrip().count("\n") == (0 if "a" not in out.split()[0] else 1)
    assert "\x1b" not in out and "\u2028" not in out and "\u202e" not in out
    assert r"x\nrestored   yes\x1b[31m\u2028\u202eü 小" in out
