"""The hostile submissions, by the part that is spoilt: how each is made, and a pattern of its refusal."""

import gzip
import json
import os
from pathlib import Path

from tests.conftest import make_specification
from tests.indexer.hostile_packages import PACKAGES
from tests.indexer.parcels import (
    Hostile,
    Spoil,
    nested,
    safetensors_file,
    submit_manifest,
    submit_package,
    submit_parcel,
    submit_rows,
)
from tests.indexer.spoilers import (
    CONFIG,
    WEIGHTS,
    A,
    card_text,
    in_folder,
    last_is_nan,
    linked_folder,
    manifest_line,
    of_folder,
    one_tensor,
    pickled,
    pickled_specification,
    ready_row,
    replaced,
    sparse,
    thousand_files,
    tiny_tensors,
    torch_archive,
    weightless,
    with_card,
    with_document_change,
    with_document_text,
    with_field_text,
    with_fields,
    with_model_card,
    with_prompt_points,
    with_specification,
    with_specification_header,
    with_text_section,
    written,
    zip_bomb,
)
from tests.indexer.test_whole_model import SPOILT
from tests.serving.tiny import BASE_NAME

MODEL_CONFIG, MODEL_WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MILLION = 10**6
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\nerror: none"
Table = dict[str, tuple[Spoil, str]]
ADAPTER_FILES: Table = {
    "a pickle": (pickled("adapter_model.bin"), r"only adapter_model\.bin, which can run code"),
    "a pickle called safetensors": (pickled(WEIGHTS), r"a header of \d+ bytes, the limit is 16777216"),
    "a torch archive called safetensors": (torch_archive, r"a header of \d+ bytes, the limit"),
    "a zip bomb in place of weights": (
        zip_bomb("adapter.zip"), r"no weights; adapter_model\.safetensors is needed",
    ),
    "a zip bomb called safetensors": (zip_bomb(WEIGHTS), r"a header of \d+ bytes, the limit"),
    "a gzip file called safetensors": (written(WEIGHTS, gzip.compress(b"x", mtime=1)), r"a header of \d+ bytes"),
    "an empty file": (written(WEIGHTS, b""), "header too small"),
    "a header longer than the file": (
        written(WEIGHTS, safetensors_file({}, length=1000)), "invalid header length",
    ),
    "a header of 2^64 - 1 bytes": (
        written(WEIGHTS, safetensors_file({}, length=2**64 - 1)), "18446744073709551615",
    ),
    "a million tiny tensors": (tiny_tensors(MILLION), r"a header of 5\d{7} bytes, the limit"),
    "as many tiny tensors as a header holds": (tiny_tensors(250_000), "tensor '0' is no LoRA A or B matrix"),
    "a header that is no JSON": (
        written(WEIGHTS, safetensors_file(b"{'a': 1}")), "invalid JSON in header: key must",
    ),
    "a header that is no UTF-8": (written(WEIGHTS, safetensors_file(b'{"\xff": 1}')), "invalid UTF-8 in header"),
    "a header nested deep": (
        written(WEIGHTS, safetensors_file(b'{"a": {"x": %s}}' % nested(10_000).encode())),
        "recursion limit exceeded",
    ),
    "a tensor twice in the header": (
        written(WEIGHTS, safetensors_file(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            b'"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', bytes(16),
        )), "not a readable safetensors file",
    ),
    "tensors that overlap": (
        written(WEIGHTS, safetensors_file({
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        }, bytes(12))), "invalid offset for tensor `b`",
    ),
    "offsets that run backwards": (one_tensor(data_offsets=[8, 0]), "not a readable safetensors file"),
    "offsets past the end": (one_tensor(shape=[2**20], data_offsets=[0, 2**22]), "incomplete metadata"),
    "a shape that says more than is there": (one_tensor(shape=[2**20]), "invalid shape"),
    "a shape that overflows": (one_tensor(shape=[2**32, 2**32]), "overflow computing buffer size"),
    "no bytes of 2^63 rows": (
        written(WEIGHTS, safetensors_file({A: {"dtype": "F32", "shape": [2**63, 0], "data_offsets": [0, 0]}})),
        r"shape \(9223372036854775808, 0\) != \(4, 64\)",
    ),
    "a negative shape": (one_tensor(shape=[-1, -2]), "invalid value: integer `-1`"),
    "a shape that is no number": (one_tensor(shape=[2.5]), "invalid type: floating point"),
    "a thousand dimensions": (one_tensor(shape=[2] + [1] * 1000), r"shape \(2, 1, 1, 1, 1, 1, \.\.\.\) != "),
    "a type with terminal escapes": (one_tensor(dtype=ESCAPES), r"unknown variant .*owned"),
    "a type that is not taken": (one_tensor(dtype="F8_E4M3", shape=[8]), "is F8_E4M3, not one of"),
    "a tensor called like a path": (one_tensor("../../etc/passwd"), r"tensor '\.\./\.\./etc/passwd' is no LoRA"),
    "a tensor with terminal escapes": (one_tensor(ESCAPES), r"tensor '\\x1b\[2J.* is no LoRA"),
    "a tensor with a line break": (one_tensor(A + "\n"), r"lora_A\.weight\\n' is no LoRA"),
    "a tensor with a name of 100 kB": (one_tensor("x" * 10**5), "tensor 'x{120}' is no LoRA"),
    "a tensor of Python's insides": (
        one_tensor("base_model.model.__class__.__init__.lora_A.weight"), "no linear module '__class__.__init__'",
    ),
    "NaN in the last number": (last_is_nan, "holds NaN or Inf"),
    "a folder called safetensors": (replaced(WEIGHTS, Path.mkdir), rf"{WEIGHTS}: a folder, not a regular file"),
    "a pipe called safetensors": (replaced(WEIGHTS, os.mkfifo), rf"{WEIGHTS}: a pipe, not a regular file"),
    "a pipe for a configuration": (replaced(CONFIG, os.mkfifo), rf"{CONFIG}: not a regular file"),
    "a link to a file of the system": (
        replaced(CONFIG, lambda path: path.symlink_to("/etc/passwd")), rf"{CONFIG}: a symbolic link",
    ),
    "a link to itself": (
        replaced("README.md", lambda path: path.symlink_to(path)), r"README\.md: a symbolic link",
    ),
    "a link out of the folder": (
        replaced("more", lambda path: path.symlink_to("../..")), "more: a symbolic link",
    ),
    "a link for a folder": (linked_folder, "submitted: a symbolic link"),
    "weights of 5 GiB": (sparse(WEIGHTS, 5 * 2**30), r"5368709120 bytes, the limit is 4294967296"),
    "a thousand and one files": (thousand_files, "more than 1000 files"),
    "a file name with terminal escapes": (written(ESCAPES, ""), r"'\\x1b\[2J.*control characters"),
    "a file name that is no text": (written("\udcff.bin", ""), r"'\\udcff\.bin' is a name with control"),
    "a file name with dots": (written("..%2f..%2fetc", ""), r"\.\.%2f\.\.%2fetc: a name with '\.\.'"),
    "a file name in other letters": (
        written(CONFIG.title(), "{}"), r"'Adapter_Config\.Json' and 'adapter_config\.json' differ only in case",
    ),
    "a file name in other letters of the same look": (
        written("\uff41dapter_config.json", "{}"), r"'adapter_config\.json' and .* differ only in case or Unicode",
    ),
    "a folder above": (in_folder("../submitted/.."), r"a name with '\.\.'"),
    "a folder with a null byte": (in_folder("a\0b"), "no such folder"),
    "a folder with a name too long": (in_folder("x" * 300), "File name too long"),
    "a file for a folder": (in_folder(CONFIG), rf"{CONFIG}: no such folder"),
}  # fmt: skip
CONFIGURATIONS: Table = {
    "a configuration over 1 MiB": (with_fields(revision="x" * 2**20), "more than 1048576 bytes"),
    "a configuration nested deep": (written(CONFIG, nested(10**5)), "not JSON .nested too deep"),
    "a field nested as deep as can be read": (
        with_field_text("x", nested(900)), r"field 'x' asks.*\[\[\[\[\[\[\.\.\.",
    ),
    "a field twice": (with_field_text("r", "8"), "field 'r' stands twice"),
    "a number of 5 000 digits": (with_field_text("loftq", "9" * 5000), "not JSON .Exceeds the limit"),
    "a rank of 4 000 digits": (with_fields(r=10**4000), r"field 'r': .*less than or equal to 256.*\.\.\."),
    "a rank that is NaN": (with_fields(r=float("nan")), r"field 'r'.*got nan"),
    "a negative rank": (with_fields(r=-4), r"field 'r'.*got -4"),
    "a scale of 400 digits": (with_fields(lora_alpha=10**400), "field 'lora_alpha'"),
    "a scale of minus infinity": (with_fields(lora_alpha=float("-inf")), r"field 'lora_alpha'.*got -inf"),
    "a configuration that is no UTF-8": (written(CONFIG, b'{"r": "\xff"}'), "not JSON .*codec can't decode"),
    "remote code": (
        with_fields(auto_mapping={"base_model_class": "Owned", "parent_library": "owned"}),
        "'auto_mapping' asks for",
    ),
    "trust in remote code": (with_fields(trust_remote_code=True), "'trust_remote_code' asks for"),
    "another method": (with_fields(peft_type="PROMPT_TUNING"), r"field 'peft_type'.*PROMPT_TUNING"),
    "a method that is a list": (with_fields(peft_type=["LORA"]), r"field 'peft_type'.*\['LORA'\]"),
    "another task": (with_fields(task_type="SEQ_CLS"), r"field 'task_type'.*SEQ_CLS"),
    "a configuration with terminal escapes": (with_fields(**{ESCAPES: 1}), r"owned.*asks for a LoRA variant"),
    "a field with a name of 100 kB": (with_fields(**{"x" * 10**5: 1}), "field 'x{80}' asks for"),
    "a method nobody knows": (
        with_fields(peft_type=ESCAPES), r"'peft_type' asks for another method than LoRA.*owned",
    ),
    "a variant as an object": (with_fields(use_dora={"x": 1}), "'use_dora' asks for DoRA, which the serving"),
    "a start that is a list": (
        with_fields(init_lora_weights=["pissa"]), r"'init_lora_weights' asks for a start .*got \['pissa'\]",
    ),
    "a pattern that would be matched without an end": (
        with_fields(rank_pattern={"(.*)*" * 30 + "x": 2}), r"'rank_pattern\..*a regular expression; write",
    ),
    "a pattern of every module": (
        with_fields(alpha_pattern={".*": 1e9}), r"'alpha_pattern\.\.\*.*a regular expression",
    ),
    "a pattern with terminal escapes": (with_fields(alpha_pattern={ESCAPES: 1}), "owned.*a regular expression"),
    "50 000 patterns": (
        with_fields(rank_pattern={f"q{number}": 4 for number in range(50_000)}),
        "'rank_pattern'.*at most 1000 items",
    ),
    "a pattern of no module": (
        with_fields(alpha_pattern={"__class__": 4}), "'alpha_pattern' names '__class__', which is no",
    ),
    "a rank by layer that is NaN": (
        with_fields(rank_pattern={"q_proj": float("nan")}), r"'rank_pattern\.q_proj'.*got nan",
    ),
    "no base model": (with_fields(base_model_name_or_path=None), "'base_model_name_or_path': Field required"),
    "a base model that is a path": (
        with_fields(base_model_name_or_path="/etc/passwd"), "'/etc/passwd' is not known",
    ),
    "a base model up the path": (
        with_fields(base_model_name_or_path=f"../{BASE_NAME}"), r"'\.\./tiny-base' is not",
    ),
    "a base model that is a URL": (
        with_fields(base_model_name_or_path="http://127.0.0.1:9/owned"), "'http://127.0.0.1:9/owned' is not known",
    ),
    "a base model that is a file's URL": (
        with_fields(base_model_name_or_path="file:///etc"), "'file:///etc' is not",
    ),
    "a base model that looks alike": (
        with_fields(base_model_name_or_path=BASE_NAME.replace("i", "\u0456")), "'t\u0456ny-base' is not known",
    ),
    "a base model with terminal escapes": (
        with_fields(base_model_name_or_path=ESCAPES), r"'\\x1b\[2J.* is not known",
    ),
    "a base model with a name of 2 000": (
        with_fields(base_model_name_or_path="x" * 2000), "at most 1000 characters",
    ),
}  # fmt: skip
BESIDE_ADAPTERS: Table = {
    "a tokenizer of another model beside it": (
        written("tokenizer.json", '{"model": {"vocab": {"a": 0}}}'), "another vocabulary than base model tiny",
    ),
    "a tokenizer that is no tokenizer beside it": (
        written("tokenizer.json", "[]"), r"tokenizer\.json: no tokenizer that transformers saved",
    ),
    "a tokenizer nested deep beside it": (
        written("tokenizer.json", nested(10**5)), r"no tokenizer that .* nested too deep",
    ),
    "a tokenizer of 65 MiB beside it": (
        sparse("tokenizer.json", 65 * 2**20), r"tokenizer\.json: more than 67108864 bytes",
    ),
    "a pipe for a tokenizer beside it": (
        replaced("tokenizer.json", os.mkfifo), r"tokenizer\.json: not a regular file",
    ),
    "a model card of aliases beside it": (
        written("README.md", "---\na: &a [x, x]\nbase_model: [*a, *a]\n---\n"),
        r"README\.md: front matter of the model card: YAML with an alias",
    ),
    "a model card of 2 MiB beside it": (sparse("README.md", 2**21), r"README\.md: more than 1048576 bytes"),
    "a record nested deep beside it": (written("record.json", nested(10**5)), r"record\.json: not JSON"),
    "a record of another base model beside it": (
        written("record.json", json.dumps({"base_fingerprint": {"weights": ESCAPES}})),
        r"stood on another base model tiny-base than this dock's \(weights [0-9a-f]{12} != ",
    ),
}  # fmt: skip
WHOLE_MODELS: Table = {
    "a billion layers further down": (
        with_fields(MODEL_CONFIG, model_type="gemma3", text_config={"num_hidden_layers": 10**8}),
        "'num_hidden_layers' is 100000000, the limit is 1000",
    ),
    "a billion labels": (with_fields(MODEL_CONFIG, num_labels=10**9), "'num_labels' is 1000000000"),
    "a billion experts": (
        with_fields(MODEL_CONFIG, model_type="mixtral", num_local_experts=10**9),
        "'num_local_experts' is 1000000000",
    ),
    "layers without an end": (with_field_text("n_layer", "Infinity", MODEL_CONFIG), "'n_layer' is inf"),
    "a width that overflows": (with_fields(MODEL_CONFIG, hidden_size=2**62), "transformers cannot read it"),
    "a width below nothing": (with_fields(MODEL_CONFIG, hidden_size=-64), "transformers cannot read it"),
    "a model type that is a path": (
        with_fields(MODEL_CONFIG, model_type="../../owned"), "transformers cannot read it",
    ),
    "code of a hub by another name": (
        with_fields(MODEL_CONFIG, attn_implementation="owner/owned"),
        "'attn_implementation' may name code of a hub",
    ),
    "a model's field nested as deep as can be read": (
        with_field_text("x", nested(900) + ', "compression_config": {"x": 1}', MODEL_CONFIG),
        "'compression_config' asks for quantised",
    ),
    "a model's field twice": (with_field_text("auto_map", 'null, "auto_map": null', MODEL_CONFIG), "stands twice"),
    "a pipe for a tokenizer": (replaced("tokenizer.json", os.mkfifo), r"tokenizer\.json: a pipe, not a regular"),
    "a link for a tokenizer": (
        replaced("tokenizer.json", lambda path: path.symlink_to("/etc/passwd")),
        r"tokenizer\.json: a symbolic link",
    ),
    "a model of a million tiny tensors": (
        tiny_tensors(MILLION, MODEL_WEIGHTS), r"model\.safetensors: not a .* \(a header of",
    ),
    "a model of 65 GiB": (sparse(MODEL_WEIGHTS, 65 * 2**30), "69793218560 bytes, the limit is 68719476736"),
    "a tokenizer of 300 MiB": (sparse("tokenizer.json", 300 * 2**20), "314572800 bytes, the limit is 268435456"),
    "an index of 40 MiB": (sparse(INDEX, 40 * 2**20), "more than 33554432 bytes"),
    "an index nested deep": (written(INDEX, '{"weight_map": ' + nested(10**5) + "}"), "index.json: not JSON"),
}  # fmt: skip
CARDS: Table = {
    "a card that is no object": (card_text(b"[]"), "is a JSON list, expected an object"),
    "a card that is no JSON": (card_text(b"\x80\x04\x95"), "is not JSON"),
    "a card nested deep": (card_text(nested(10**5).encode()), "is not JSON: .*recursion"),
    "a card's field nested as deep as can be read": (
        card_text(b'{"name": "a", "domain": %s}' % nested(900).encode()), r"field 'domain'.*\[\[\[\[\[\[\.\.\.",
    ),
    "HTML with terminal escapes": (
        with_card(description=f"<script>alert(1)</script>{ESCAPES}"),
        r"'description'.*control characters.*<script>",
    ),
    "a one-byte escape": (with_card(owner="\x9b2J"), "field 'owner'.*control characters"),
    "a null byte": (with_card(domain="a\0b"), "field 'domain'.*control characters"),
    "half a surrogate": (card_text(b'{"name": "a", "licence": "\\ud800"}'), "field 'licence'"),
    "a name that is a path": (with_card(name="../../owned"), r"field 'name'.*got '\.\./\.\./owned'"),
    "a name with terminal escapes": (with_card(name=ESCAPES), r"field 'name'.*got '\\x1b\[2J"),
    "a name that ends in a line break": (with_card(name="harmless\n"), r"field 'name'.*got 'harmless\\n'"),
    "a name that looks alike": (with_card(name="h\u0430rmless"), "field 'name'.*got 'h\u0430rmless'"),
    "a name that routes": (with_card(name="AUTO"), "'AUTO' is reserved"),
    "a name in another Unicode form": (with_card(name="re\u0301sume\u0301"), r"field 'name'.*got 're\u0301sume"),
    "a name of full width": (with_card(name="\uff46inance"), "field 'name'.*got '\uff46inance'"),
    "a name of a base model in other letters": (
        with_card(name=BASE_NAME.upper()), "'TINY-BASE' is the name of a base model",
    ),
    "a name of a base model": (with_card(name=BASE_NAME), "'tiny-base' is the name of a base model"),
    "a description of 1 MB": (with_card(description="x" * 10**6), "'description'.*at most 4000 characters"),
    "100 000 unknown fields": (
        with_card(**{f"field-{number}": number for number in range(10**5)}), "field-4'.*; and 99995 more$",
    ),
    "a field with terminal escapes": (with_card(**{ESCAPES: 1}), r"owned.*Extra inputs are not permitted"),
    "a card with an id": (with_card(id="ab" * 32), "field 'id': Extra inputs"),
    "a card with praise of itself": (
        with_card(quality=[{"kind": "gain", "task": "all", "value": 1e9, "source": "me"}]),
        "field 'quality': Extra inputs",
    ),
    "51 tags": (with_card(tags=["x"] * 51), "field 'tags'.*at most 50 items"),
}  # fmt: skip
SPECIFICATIONS: Table = {
    "a specification that is a pickle": (
        pickled_specification, r"header of \d+ bytes, limit 65536",
    ),
    "a specification of nothing": (with_specification(lambda _: b""), "truncated, or not a specification file"),
    "a specification of 17 MiB": (
        with_specification(lambda data: data + bytes(17 * 2**20)), "bytes, the limit is 16777216",
    ),
    "a specification with a header of 2^63 bytes": (
        with_specification(lambda data: (2**63).to_bytes(8, "little") + data[8:]),
        "header of 9223372036854775808 bytes",
    ),
    "weights of no bytes in 2^63 rows": (
        with_specification(lambda _: weightless(make_specification(1).to_bytes())),
        r"text\.weights has the impossible shape .9223372036854775808, 0.",
    ),
    "points in a thousand dimensions": (
        with_specification_header(lambda header: header["text.points"]["shape"].extend([1] * 1000)),
        "the impossible shape",
    ),
    "prompt points without rows": (with_prompt_points(), r"'prompt\.points' \(\) != "),
    "prompt points without columns": (with_prompt_points(1, 0), r"'prompt\.points' \(1, 0\) != "),
    "a sketch of another encoder": (
        with_specification(lambda _: make_specification(1).to_bytes()), "but sixteen|made by encoder sixteen",
    ),
    "a sketch of an encoder with terminal escapes": (
        with_document_change(lambda document: document["sections"]["text"]["encoder"].update(name=ESCAPES)),
        "field 'digest' says",
    ),
    "more texts than there are": (
        with_text_section(sample_size=2**64), "'sections.text.sample_size'",
    ),
    "a kernel that is NaN": (
        with_text_section(gamma=float("nan")), "'sections.text.gamma'|JSON",
    ),
    "a promise that was never kept": (
        with_document_change(lambda document: document.update(privacy={
            "mechanism": "gaussian", "epsilon": 1, "delta": 1e-5, "neighbours": "replace_one",
            "feature_map": "encoder",
        })), "field 'digest' says",
    ),
    "a document with terminal escapes": (
        with_document_change(lambda document: document.update({ESCAPES: 1})),
        "owned.*Extra inputs are not permitted",
    ),
    "a document nested deep": (
        with_document_text(nested(5000)), "field 'metadata': Invalid JSON",
    ),
    "a document with half a surrogate": (
        with_document_text("\ud800"), "specification: ",
    ),
    "another version": (with_document_change(lambda document: document.update(version=2)), "field 'version'"),
    "500 tensors more": (
        with_specification_header(lambda header: header.update({
            f"more-{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(500)
        })), r"tensors \['more-0', 'more-1', .*, expected",
    ),
}  # fmt: skip
MANIFESTS: Table = {
    "a manifest's line of 2 MiB": (
        manifest_line('{"name": "' + "x" * 2**21 + '"}'), "not a JSON object of at most 1 MiB",
    ),
    "a manifest of no folder": (manifest_line({"adapter": 7}), "field 'adapter' must be a path .got 7"),
    "a manifest's path nested deep": (
        manifest_line('{"name": "a", "adapter": ' + nested(900) + "}"),
        r"field 'adapter' must be a path .got \[+\.\.\.",
    ),
    "a manifest's path with a null byte": (manifest_line({"adapter": "a\0b"}), "no such folder"),
    "a manifest's path with half a surrogate": (manifest_line({"adapter": "\ud800"}), "no such folder"),
    "a manifest's path with terminal escapes": (
        manifest_line({"adapter": ESCAPES}), "owned. error: none: no such folder",
    ),
    "a manifest's specification that is a device": (
        manifest_line({"adapter": "submitted", "specification": "/dev/zero"}), "/dev/zero: not a regular file",
    ),
    "a model card of YAML that grows without an end": (
        with_model_card("a: &a [x, x]\nb: &b [*a, *a]\ntags: [*b, *b]"),
        r"README\.md: front matter of the model card: YAML with an alias \(\*a\)",
    ),
    "a model card nested deep": (with_model_card("tags: " + nested(5000)), "card: YAML nested deeper than 32"),
    "a model card that makes Python objects": (
        with_model_card("tags: !!python/object/apply:os.system [owned]"), "model card: not YAML that can be read",
    ),
    "a model card with front matter of 200 kB": (
        with_model_card("tags: " + "x" * 200_000), "200006 characters of YAML, the limit is 131072",
    ),
    "a model card of 2 MiB": (with_model_card("#" * 2**21), r"README\.md: more than 1048576 bytes"),
    "a model card with a licence of terminal escapes": (
        with_model_card('license: "\x1b[2Jowned"'), "model card: not YAML that can be read",
    ),
    "a manifest that brings an id": (
        manifest_line({"adapter": "submitted", "id": "ab" * 32}), "field 'id' in a manifest",
    ),
}  # fmt: skip
ROWS: Table = {
    "a row with a file out of the folder": (
        ready_row(specification="../../good"), "is not inside the manifest's folder",
    ),
    "a row with a file of the system": (ready_row(specification="/etc/passwd"), "'/etc' is not inside"),
    "a row with a device": (ready_row(specification="/dev/zero"), "'/dev' is not inside"),
    "a row of no adapter": (ready_row(), "is not in the store; submit it first"),
    "a row with an id that is a path": (ready_row(id="../" * 21 + "x"), "field 'id'.*should match pattern"),
    "a row with an id and a line break": (ready_row(id="ab" * 32 + "\n"), r"field 'id'.*\\n"),
    "a row of a rank beyond numbers": (ready_row(id="", rank=2**70), "field 'rank'"),
    "a row nested as deep as can be read": (
        manifest_line('{"id": "x", "specification": "good", "name": ' + nested(900) + "}", "rows.jsonl"),
        r"field 'name'.*\[\[\[",
    ),
    "a row that says it was praised": (ready_row(id="", quality=[]), "field 'quality' is not one of"),
}  # fmt: skip
HOSTILE: tuple[Hostile, ...] = (
    *(
        Hostile(name, spoil, words, submit_parcel)
        for table in (ADAPTER_FILES, CONFIGURATIONS, BESIDE_ADAPTERS, CARDS, SPECIFICATIONS)
        for name, (spoil, words) in table.items()
    ),
    *(Hostile(name, spoil, words, submit_parcel, whole=True) for name, (spoil, words) in WHOLE_MODELS.items()),
    *(
        Hostile(f"a whole model: {name}", of_folder(spoil), words, submit_parcel, whole=True)
        for name, (spoil, words) in SPOILT.items()
        # Without a configuration it is taken for an adapter's folder; code below is refused as code is.
        if name not in ("no configuration", "own code below")
    ),
    *(Hostile(name, spoil, words, submit_manifest) for name, (spoil, words) in MANIFESTS.items()),
    *(Hostile(name, spoil, words, submit_rows) for name, (spoil, words) in ROWS.items()),
    *(Hostile(name, spoil, words, submit_package) for name, (spoil, words) in PACKAGES.items()),
)
