"""English prompts for the language models, as chat messages. Chat templates come from the models' tokenizers.

The paper conditions Mistral-7B-Instruct-v0.2 on a concept and an axis to write T+, and asks Llama-3.1-8B-Instruct to
change only the named axis and to keep the syntax to write T-. Its wording is not published: these prompts are ours,
with SynthCLIP's requirements (one grammatical sentence of at most 15 words about what can be seen, nothing else;
hammoudhasan/SynthCLIP:TextGen/captions_generator.py).
"""

from __future__ import annotations

from polygen_stream.captions.banks.base import Messages
from polygen_stream.captions.verification.axes import Axis
from polygen_stream.captions.verification.injection import sanitize

VERSION = 1  # of the wording; journals record it
WORDS = 15


def caption_prompt(concept: str, axis: Axis, whole_scene: bool) -> Messages:
    """Return the prompt for T+: one user turn, because Mistral-7B-Instruct-v0.2 has no system turn."""
    scene = "It must also name the place and the main colours. " if whole_scene else ""
    return [
        {
            "role": "user",
            "content": (
                f'Write one image caption about "{sanitize(concept)}" that {axis.caption_clause}. '
                f"It must be one grammatical English sentence of at most {WORDS} words that describes only what can be "
                f'seen and has the words "{sanitize(concept)}" in it. {scene}'
                "Reply with the caption alone, on one line, without quotation marks, notes or explanations."
            ),
        }
    ]


def negative_prompt(caption: str, axis: Axis) -> Messages:
    """Return the prompt for T-: a system turn and a user turn."""
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
                f"Change {axis.edit_clause}, and nothing else, so that the caption is true of a visibly different "
                f"picture and no longer true of the first one.\n"
                f"Example: {before}\nChanged: {after}\n"
                f"Caption: {sanitize(caption)}\nChanged:"
            ),
        },
    ]
