"""Chat, streaming and an error through langchain-openai; what was seen goes to stdout as JSON."""

import json
import sys

import openai
from langchain_openai import ChatOpenAI

base = f"{sys.argv[1]}/v1"


def model(name: str) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=base, api_key="none", temperature=0, max_retries=0)


seen = {"chat": model("alpha").invoke("Hello").content}
seen["stream"] = "".join(chunk.content for chunk in model("alpha").stream("Hello"))
try:
    model("alpa").invoke("Hello")
except openai.NotFoundError as error:
    seen["error"] = str(error)
print(json.dumps(seen))
