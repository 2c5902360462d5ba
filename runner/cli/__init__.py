"""The `lockgate` command: words, progress, tables. Talks to the runner over its socket only."""
