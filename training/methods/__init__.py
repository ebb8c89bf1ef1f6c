"""The training methods: one folder each, found at start. ``docs/methods.md`` says how to add one."""
