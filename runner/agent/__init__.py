"""The agent: the program that stands between the gateway and one app, pid 1 of its container.

Invariants: the standard library and its own files only, from Python 3.9 on; it never reads a secret
of the app, and the app never reads a secret of the agent.

Docker runs this folder (`python3 -I -S -B /lockgate/agent agent.json`), tests and mypy see it as
`runner.agent`; every import inside is relative, so that both see the same modules.
"""
