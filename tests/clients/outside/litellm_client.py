"""Chat, streaming and an error through litellm; what was seen goes to stdout as JSON."""

import json
import sys

import litellm

base = f"{sys.argv[1]}/v1"


def ask(model: str, **more: object) -> object:
    return litellm.completion(
        model=f"openai/{model}",
        api_base=base,
        api_key="none",
        messages=[{"role": "user", "content": "Hello"}],
        temperature=0,
        max_retries=0,
        **more,
    )


seen = {"chat": ask("alpha").choices[0].message.content}
seen["stream"] = "".join(
    chunk.choices[0].delta.content or "" for chunk in ask("alpha", stream=True)
)
try:
    ask("alpa")
except litellm.NotFoundError as error:
    seen["error"] = str(error)
print(json.dumps(seen))
