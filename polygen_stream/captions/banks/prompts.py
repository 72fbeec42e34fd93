"""What the language models are asked, as chat messages; tokenizers bring their model's own chat template.

The paper conditions Mistral-7B-Instruct-v0.2 on concept and axis for T+, and has Llama-3.1-8B-Instruct change the named
axis only for T-, keeping the syntax. Its wording is not known: these prompts are ours, with SynthCLIP's demands (one
grammatical sentence of at most 15 words about what can be seen, nothing else; hammoudhasan/SynthCLIP:
TextGen/captions_generator.py).
"""

from __future__ import annotations

from polygen_stream.captions.banks.base import Messages
from polygen_stream.captions.verification.axes import Axis
from polygen_stream.captions.verification.injection import sanitize

VERSION = 1  # of the wording; a journal says which one wrote its captions
WORDS = 15


def caption_prompt(concept: str, axis: Axis) -> Messages:
    """Asks for T+. One user turn: Mistral-7B-Instruct-v0.2 has no system turn."""
    return [
        {
            "role": "user",
            "content": (
                f'Write one image caption about "{sanitize(concept)}" that {axis.shown}. '
                f"It must be one grammatical English sentence of at most {WORDS} words that describes only what can be "
                f'seen and has the words "{sanitize(concept)}" in it. '
                "Reply with the caption alone, on one line, without quotation marks, notes or explanations."
            ),
        }
    ]


def negative_prompt(caption: str, axis: Axis) -> Messages:
    """Asks for T-: a system and a user turn."""
    before, after = axis.example
    return [
        {
            "role": "system",
            "content": (
                "You edit image captions. You change one thing and keep every other word, the order of the words and "
                "the length. You reply with the new caption alone, on one line, without quotation marks or notes."
            ),
        },
        {
            "role": "user",
            "content": (
                f"Change {axis.edit}, and nothing else, so that the caption is true of a visibly different picture "
                f"and no longer true of the first one.\n"
                f"Example: {before}\nChanged: {after}\n"
                f"Caption: {sanitize(caption)}\nChanged:"
            ),
        },
    ]
