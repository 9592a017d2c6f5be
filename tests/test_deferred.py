"""Deferring the building of models changes when they are built, and nothing else."""

from __future__ import annotations

import subprocess
import sys

from pydantic import BaseModel

from edgewise.deferred import deferred

SCHEMA = """
import json
{imports}
from pydantic import BaseModel
class Item(BaseModel):
    name: str
app = fastapi.FastAPI()
@app.post("/items", dependencies=[fastapi.Depends(security.OAuth2PasswordBearer(tokenUrl="token"))])
def make(item: Item, mode: str = fastapi.Query("a", examples=["b"])) -> Item:
    return item
print(json.dumps(app.openapi(), sort_keys=True))
"""
PLAIN = "import fastapi\nfrom fastapi import security"
DEFERRED = f"from edgewise.deferred import deferred\nwith deferred():\n    {PLAIN.replace(chr(10), chr(10) + '    ')}"


def test_models_made_inside_are_built_at_first_use_and_those_outside_at_once() -> None:
    with deferred():

        class Inside(BaseModel):
            number: int

    class Outside(BaseModel):
        number: int

    assert (Inside.__pydantic_complete__, Outside.__pydantic_complete__) == (False, True)
    assert Inside(number="3").number == 3  # type: ignore[arg-type]
    assert Inside.__pydantic_complete__ and "defer_build" not in BaseModel.model_config


def test_fastapi_describes_an_app_alike_when_its_models_came_late() -> None:
    plain, late = (
        subprocess.run(
            [sys.executable, "-c", SCHEMA.format(imports=imports)], capture_output=True, text=True, check=True
        ).stdout
        for imports in (PLAIN, DEFERRED)
    )
    assert plain == late and "OAuth2PasswordBearer" in plain
