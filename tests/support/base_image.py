"""`python -m tests.support.base_image`: make the base image before tests want it side by side.

Invariants: uses the product's own engine, so the image is the one that an operator gets.
"""

import asyncio

from runner.engines.docker import DockerEngine


async def make_base_image() -> str:
    """The image's id; quick when the engine has it already."""
    engine = DockerEngine("prepare")
    try:
        return (await engine.check()).image_id
    finally:
        await engine.close()


if __name__ == "__main__":
    print("base image", asyncio.run(make_base_image())[:19], flush=True)
