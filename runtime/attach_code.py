"""How a program travels to a controller: by value, with slices by number.

The program's function goes as code and what it refers to (cloudpickle): functions of the notebook,
of the script, and of modules that are no installed packages; what is installed goes by name, since
both ends have it. Computations, switches and gates go as what they were made of, without what was
traced or compiled. The controller traces the program again.

Its *key* is a hash of the same without file names, line numbers and other accidents, so that the
same program of another process is found again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

from .attach_slices import AttachedSlice
from .by_value import by_value
from .computations import Computation
from .errors import ProgramError
from .gates import Gate
from .programs import Program
from .resources import Slice
from .switches import Switch
from .values import Value
from .waking import Executables


def pack_program(program: Program) -> tuple[str, bytes]:
    """A program's key and what `unpack_program` takes.

    Raises:
        ProgramError: it refers to what cannot travel.
    """
    with by_value():
        payload = _dumped(_Pickler, program)
        key = hashlib.sha256(_dumped(_Hasher, program)).hexdigest()
    return key, payload


def unpack_program(payload: bytes, slice_of: Callable[[int], Any]) -> Program:
    """The program, on other slices of the same numbers.

    Args:
        payload: of `pack_program`.
        slice_of: a slice by its number.

    Raises:
        ProgramError: what it refers to by name is not installed here.
    """
    try:
        return _Unpickler(io.BytesIO(payload), slice_of).load()
    except ProgramError:
        raise
    except Exception as error:
        raise ProgramError(
            f"the program cannot be read on this side ({type(error).__name__}: {error}): what it "
            "takes from installed packages must be installed on both"
        ) from error


class _Pickler(cloudpickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, AttachedSlice):
            return obj.number
        if isinstance(obj, Slice):
            raise ProgramError(
                f"the program uses {obj!r} of a runtime of this process: take all its slices from "
                "the system that is attached to"
            )
        if isinstance(obj, Value):
            raise ProgramError(
                f"the program's function refers to {obj!r}, which is a future: pass it as an "
                "argument"
            )
        return None

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is Program:
            return (Program, (obj.fn, obj.name)) if obj.recipe is None else (_made, obj.recipe)
        if kind is Computation:
            given = obj.fn, obj.slice, obj.name, obj.donate, obj.in_specs, obj.out_specs
            return _computation, given
        if kind is Gate:
            return _gate, (obj.fn, obj.slice, obj.name)
        if kind is Switch:
            given = obj.branch, obj.slices, obj.params, obj.count
            return _switch, (*given, obj.name, obj.together, obj.save, obj._nodes)
        if kind is Executables:
            return Executables, (obj.name, obj.slices)
        return super().reducer_override(obj)


class _Hasher(_Pickler):
    """What is the same for the same program of another process."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            what = obj.co_code, obj.co_consts, obj.co_names, obj.co_varnames, obj.co_freevars
            return tuple, ((*what, obj.co_cellvars, obj.co_flags, obj.co_name),)
        found = super().reducer_override(obj)
        if isinstance(found, tuple):
            if isinstance(obj, type) and len(found[1]) > 4:  # cloudpickle numbers classes at random
                return (found[0], (*found[1][:4], *found[1][5:]), *found[2:])
            if isinstance(obj, types.FunctionType) and len(found) > 2:  # by value
                code, space, *rest = found[1]
                space = {name: space[name] for name in space if name != "__file__"}
                return (found[0], (code, space, *rest), *found[2:])
        return found


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, slice_of: Callable[[int], Any]):
        super().__init__(file)
        self._slice_of = slice_of

    def persistent_load(self, pid: Any) -> Any:
        return self._slice_of(pid)


def _made(make: Callable[..., Program], args: tuple, options: dict[str, Any]) -> Program:
    return make(*args, **options)


def _computation(fn: Any, part: Any, name: str, donate: Any, ins: Any, outs: Any) -> Computation:
    return Computation(fn, part, name=name, donate=donate, in_specs=ins, out_specs=outs)


def _gate(fn: Any, part: Any, name: str) -> Gate:
    return Gate(fn, part, name=name)


def _switch(
    branch: Any, slices: Any, params: Any, count: int, name: str, together: int, save: bool, nodes
) -> Switch:
    return Switch(
        branch, slices, params, count, name=name, together=together, save=save, nodes=nodes
    )


def _dumped(kind: type[_Pickler], program: Program) -> bytes:
    file = io.BytesIO()
    try:
        kind(file, protocol=5).dump(program)
    except ProgramError:
        raise
    except Exception as error:
        raise ProgramError(
            f"program {program.name!r} cannot go to the controller ({type(error).__name__}: "
            f"{error}): its functions may refer to arrays, numbers, functions and slices, not to "
            "files, locks or connections; an installed module goes by its name"
        ) from error
    return file.getvalue()
