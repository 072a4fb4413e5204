"""A host of a language model: python examples/chat_host.py USER QUESTION

Any client of OpenAI's API will do: the field `user` selects whose adapter speaks.
"""

import os
import sys

import openai


def main() -> None:
    user, question = sys.argv[1:3]
    client = openai.OpenAI(base_url=os.environ["PLORA_URL"] + "/v1", api_key=os.environ["PLORA_TOKEN"])
    parts = client.chat.completions.create(
        model="plora",
        user=user,
        messages=[{"role": "user", "content": question}],
        max_tokens=64,
        temperature=0,
        stream=True,
    )
    for part in parts:
        print(part.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
