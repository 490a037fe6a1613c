"""One module a runtime, found by its file name: `why_not`, `build`, `load`, `network_layers`."""
