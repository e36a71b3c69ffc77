"""The model card of some runs: a function of their records, in Markdown, in English or in Chinese."""
