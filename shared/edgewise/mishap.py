"""What may be told of a failure that nobody thought of: its class, and where in this package it happened.

Never its message, which may hold a client's text or a secret. Class and place look like a name, so a log line takes
them, and they are what whoever mends it asks for first.
"""

from __future__ import annotations


def kind_and_place(error: BaseException) -> str:
    """`RecursionError:policy/compress.py:95`; the class alone where none of the package's code was on the way."""
    place, step = "", error.__traceback__
    while step is not None:
        # By the folder's name: bytecode that was compiled elsewhere remembers that place.
        _, ours, file = step.tb_frame.f_code.co_filename.rpartition("/edgewise/")
        if ours:
            place = f":{file}:{step.tb_lineno}"
        step = step.tb_next
    return type(error).__name__ + place
