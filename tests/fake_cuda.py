"""Run CUDA code without a GPU: tensors that report `cuda:0` and hold their values on the CPU.

What CUDA refuses raises `DeviceMismatchError`, and whatever makes the host wait is noted.
torch's own fake tensors have no values, so a run would end where the host first reads one, and
transformers takes other branches for them.
"""

import contextlib
import copy

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from memcram.models.frozen_lm import FrozenLM

CUDA = torch.device("cuda:0")
aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
# Their results, or the sizes of these, are needed on the host.
_READING = (
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
)


class DeviceMismatchError(AssertionError):
    """An operation on tensors of two devices that CUDA would refuse."""


class OnCuda(torch.Tensor):
    """Tensor that reports `cuda:0`; its values are in `inner`, on the CPU.

    To torch's C++ code it is on `meta`, the only device without values that every build has.
    """

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"OnCuda({self.inner})"

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    def tolist(self):
        # torch refuses it for subclasses.
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} outside of the fake device")


class FakeCuda(TorchDispatchMode):
    """Mode in which `cuda:0` exists.

    Attributes:
        waits: operations that made the host wait for the device.
        uploads: number of copies to the device that the host did not wait for.
    """

    def __init__(self):
        super().__init__()
        self.waits = []
        self.uploads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is aten.is_pinned.default:
            return hasattr(args[0], "is_fake_pinned")
        if function is aten._pin_memory.default:
            pinned = args[0].clone()
            pinned.is_fake_pinned = True
            return pinned
        if function is aten.copy_.default:
            self._note_copy(args[1], to_device=_is_ours(args[0]), non_blocking=args[2:] == (True,))
            _plain(args[0]).copy_(_plain(args[1]))
            return args[0]
        tensors = list(_tensors((*args, *kwargs.values())))
        device = kwargs.get("device")
        to_device = any(map(_is_ours, tensors)) if device is None else device.type != "cpu"
        if function is aten._to_copy.default:
            non_blocking = kwargs.get("non_blocking", False)
            self._note_copy(args[0], to_device=to_device, non_blocking=non_blocking)
        elif any(map(_is_ours, tensors)):
            self._check(function, args, tensors)
        if device is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        plain = {name: _plain(value) for name, value in kwargs.items()}
        result = function(*_plain(args), **plain)
        if not to_device:
            return result
        return return_and_correct_aliasing(function, args, kwargs, _wrapped(result))

    def _note_copy(self, source, *, to_device, non_blocking):
        """Note a copy between the devices; only one from pinned memory need not wait."""
        if _is_ours(source) and not to_device:
            self.waits.append("copy to the host")
        elif to_device and not _is_ours(source):
            if non_blocking and hasattr(source, "is_fake_pinned"):
                self.uploads += 1
            else:
                self.waits.append("copy to the device")

    def _check(self, function, args, tensors):
        """Note an operation that reads values, and refuse one on two devices."""
        indices = [one for one in args[1] if one is not None] if function in _INDEXING else []
        # CUDA takes a CPU tensor without dimensions as a constant, and uploads CPU indices.
        foreign = [one for one in tensors if not _is_ours(one) and one.dim()]
        uploaded = [one for one in indices if not _is_ours(one)] if _is_ours(args[0]) else []
        if len(foreign) > len(uploaded):
            raise DeviceMismatchError(f"{function}: cuda:0 and cpu")
        if function in _READING or any(one.dtype in _MASKS for one in indices):
            self.waits.append(str(function))
        elif uploaded:
            self.waits.append("copy to the device")


def _is_ours(tensor):
    return isinstance(tensor, OnCuda)


def _tensors(values):
    """Yield the tensors in lists of lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _plain(value):
    """Replace the tensors on the device by their values."""
    if isinstance(value, OnCuda):
        return value.inner
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def _wrapped(value):
    """Place tensors on the device."""
    if isinstance(value, torch.Tensor):
        return OnCuda(value)
    return type(value)(map(_wrapped, value)) if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def fake_cuda():
    """Context manager in which `cuda:0` exists; yields its `FakeCuda`."""
    initialise, lifting = torch.cuda._lazy_init, torch._C._only_lift_cpu_tensors()
    torch.cuda._lazy_init = lambda: None
    # torch.tensor(…, device=…) then copies by an operation that the mode sees.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with FakeCuda() as device:
            yield device
    finally:
        torch.cuda._lazy_init = initialise
        torch._C._set_only_lift_cpu_tensors(lifting)


def on_cuda(lm):
    """Copy a model to the fake device."""
    moved = {id(one): one.to(CUDA) for one in lm.module.buffers()}
    for one in lm.module.parameters():
        moved[id(one)] = torch.nn.Parameter(one.to(CUDA), requires_grad=False)
    return FrozenLM(copy.deepcopy(lm.module, moved), lm.tokenizer, lm.identity, lm.layout)
