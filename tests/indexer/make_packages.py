"""Makes the packages in ``packages/`` with the PyPI package learnware itself; knows nothing of this project.

Run in an environment that has learnware 0.4.0.post1, such as that of ``benchmarks/learnware_package.py``:

    python make_packages.py packages

Two things are not the package's own, since they cannot be had here: the vectors of its encoder are drawn, and the
"pickle" is a line of text. No adapter is in them; the tests put one there.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from learnware.learnware import get_learnware_from_dirpath
from learnware.market.easy.checker import EasySemanticChecker
from learnware.specification import RKMETextSpecification, generate_rkme_text_spec, generate_semantic_spec
from learnware.tests.templates import LearnwareTemplate, PickleModelTemplate, StatSpecTemplate
from learnware.utils import read_yaml_to_dict, save_dict_to_yaml

TEXTS = ["How much wheat does a field of two acres give?", "Which weeds harm barley the most?"]
STATISTICS = {
    "module_path": "learnware.specification",
    "class_name": "RKMETextSpecification",
    "file_name": "stat.json",
    "kwargs": {},
}


def main(target: Path) -> None:
    vectors = np.random.default_rng(0).normal(scale=0.2, size=(len(TEXTS), 384)).astype(np.float32)
    RKMETextSpecification.get_sentence_embedding = staticmethod(lambda texts: vectors)
    _adapter(target / "adapter")
    _pickled(target / "pickled.zip", target / "adapter" / "stat.json")
    for package in target.iterdir():
        print(package, _loaded(package))


def _adapter(folder: Path) -> None:
    """A package for a PEFT adapter in ``weights``, as one comes from Beimingwu: with an id and its semantics."""
    folder.mkdir(parents=True, exist_ok=True)
    generate_rkme_text_spec(TEXTS, cuda_idx=-1).save(str(folder / "stat.json"))
    semantics = generate_semantic_spec(
        name="Wheat & barley", description="Answers questions on fields.", data_type="Text",
        task_type="Text Generation", model_type="PEFT Model", library_type="PyTorch",
        scenarios=["Agriculture", "Education"], license="Apache-2.0",
    )  # fmt: skip
    (folder / "semantic_specification.json").write_text(json.dumps(semantics))
    model = {"class_name": "Model", "weights_file_path": "weights", "required_learnware_ids": ["00002890"]}
    file = str(folder / "learnware.yaml")
    LearnwareTemplate.generate_learnware_yaml(file, model, [STATISTICS])
    semantic = {"file_name": "semantic_specification.json"}
    save_dict_to_yaml(read_yaml_to_dict(file) | {"id": "00000001", "semantic_specification": semantic}, file)


def _pickled(archive: Path, statistics: Path) -> None:
    """A package for a pickled model, as the template makes them."""
    with tempfile.TemporaryDirectory() as name:
        stub = Path(name) / "stub"
        stub.write_text("# stands for code and pickle\n")
        shapes = {"input_shape": (64,), "output_shape": (10,)}
        model = PickleModelTemplate(model_kwargs=shapes, pickle_filepath=str(stub))
        model.template_path = str(stub)
        specification = StatSpecTemplate(filepath=str(statistics), type="RKMETextSpecification")
        LearnwareTemplate.generate_learnware_zipfile(str(archive), model, specification, ["numpy"])


def _loaded(package: Path) -> Any:
    """What learnware itself makes of a package; it fails where that is nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if package.is_dir():
            for file in package.iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
            (folder / "weights").mkdir()
        else:
            zipfile.ZipFile(package).extractall(folder)
        semantics: dict[str, Any] = {"Data": {"Values": []}, "Task": {"Values": []}}
        if (folder / "semantic_specification.json").exists():
            semantics = json.loads((folder / "semantic_specification.json").read_text())
            status, message = EasySemanticChecker.check_semantic_spec(semantics)
            assert status != EasySemanticChecker.INVALID_LEARNWARE, message
        return get_learnware_from_dirpath("test", semantics, str(folder), ignore_error=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
