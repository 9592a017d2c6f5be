"""LangChain's standard suite for chat models, all of it, on its own OpenAI client."""

from __future__ import annotations

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestGateway(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "scripted/echo",
            "base_url": os.environ["EDGEWISE_CLIENT_URL"],
            "api_key": os.environ["EDGEWISE_CLIENT_KEY"],
            "stream_usage": True,
        }

    @property
    def supports_image_inputs(self) -> bool:
        # These tests download a picture from the internet.
        return False

    @property
    def supports_json_mode(self) -> bool:
        return True
