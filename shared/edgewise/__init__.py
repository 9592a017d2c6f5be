"""Edgewise: an OpenAI-compatible LLM gateway that lives entirely on AWS Lambda.

Import from the modules; nothing is imported here, since every import is paid for at a cold start.
"""
