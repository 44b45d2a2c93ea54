"""The demo's tokenizer: byte-level BPE on the project's own text, digits one by one, and the chat template."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from slmdock.demo.scale import CONTEXT, VOCABULARY
from specification.examples import Example

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{{ '\\n' }}{% endfor %}{{ 'Answer:' }}"
)


def prompt_of(text: str) -> str:
    """A text as the chat template renders it, without `<bos>`, which encoding adds."""
    return f"{text}\nAnswer:"


def train_tokenizer(examples: Iterable[Example]) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `VOCABULARY` entries, trained on prompts and answers."""
    core = train_core((f"{prompt_of(e.text)} {e.answer}" for e in examples), VOCABULARY)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def train_core(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE of at most so many entries, digits one by one, `<bos>` before every text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, core.token_to_id(BOS))]
    )
    return core
