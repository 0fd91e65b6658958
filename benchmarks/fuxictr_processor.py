"""FuxiCTR's feature processor, as benchmarks.prepare measures it: in the environment that has it, without ours."""

from collections.abc import Sequence
from typing import Any

from recsys.patterns import match_columns
from recsys.schema.config import DelimitedSequence, SchemaConfig

MIN_COUNT = 10

SCRIPT = """
import glob, json, logging, resource, sys, time
import numpy, pandas
from fuxictr.preprocess.feature_processor import FeatureProcessor
raw, work = sys.argv[1:]
config = json.load(open(work + "/config.json"))
start = time.perf_counter()
processor = FeatureProcessor(config["feature_cols"], config["label_col"], "out", work)
frame = processor.preprocess(processor.read_data(raw, data_format="parquet"))
processor.fit(frame, min_categr_count=config["min_count"])
table = frame.collect()
for number, part in enumerate(table.iter_slices(100_000)):
    batch = processor.transform({name: part[name].to_numpy() for name in part.columns})
    columns = {name: list(value) if getattr(value, "ndim", 1) > 1 else value for name, value in batch.items()}
    pandas.DataFrame(columns).to_parquet(f"{work}/out/{number}.parquet")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([time.perf_counter() - start, peak]))
"""
"""Fits and transforms in one process and without Ray, whose start would count against it."""


def fuxictr_config(schema: SchemaConfig, columns: Sequence[str]) -> dict[str, Any]:
    """The columns of a schema as FuxiCTR is told of them; statistics of sequences, which it has not, are left out."""
    text = {"gender", "age_group", "inventory_id", "hour"}
    usable = [column for column in columns if column not in schema.ignore]
    single = match_columns(schema.categorical, usable, "categorical")
    numeric = match_columns(schema.numeric, usable, "numeric")
    features: list[dict[str, Any]] = [
        {"name": name, "active": True, "dtype": "str" if name in text else "float", "type": "categorical"}
        for name in single
    ]
    features += [
        {"name": name, "active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"}
        for name in numeric
    ]
    for name, sequence in schema.sequences.items():
        if isinstance(sequence, DelimitedSequence):
            described = {"splitter": sequence.delimiter, "max_len": sequence.max_length, "padding": "pre"}
            features.append({"name": name, "active": True, "dtype": "str", "type": "sequence"} | described)
    label = {"name": schema.label_column, "dtype": "float"}
    return {"feature_cols": features, "label_col": label, "min_count": MIN_COUNT}
