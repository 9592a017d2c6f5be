"""The usual stack: FastAPI under Mangum with a boto3 client for DynamoDB, one validated model, one table read."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config
from fastapi import FastAPI
from mangum import Mangum
from pydantic import BaseModel

# The same patience as the gateway's own client has on a laptop.
client = boto3.client("dynamodb", config=Config(read_timeout=30, retries={"mode": "standard"}))
app = FastAPI()


class Chat(BaseModel):
    """As much of a chat request as the answer needs."""

    model: str
    messages: list[dict[str, Any]]


@app.post("/v1/chat/completions")
async def chat(request: Chat) -> dict[str, Any]:
    table = os.environ.get("EDGEWISE_CACHE_TABLE")
    if table:
        client.get_item(TableName=table, Key={"pk": {"S": "absent"}, "sk": {"S": "entry"}})
    return {"model": request.model, "turns": len(request.messages)}


handler = Mangum(app, lifespan="off")
