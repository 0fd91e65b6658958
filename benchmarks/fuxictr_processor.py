"""FuxiCTR's feature processor for benchmarks.prepare, run in an environment that has FuxiCTR."""

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
for number, chunk in enumerate(table.iter_slices(100_000)):
    batch = processor.transform({name: chunk[name].to_numpy() for name in chunk.columns})
    columns = {name: list(value) if getattr(value, "ndim", 1) > 1 else value for name, value in batch.items()}
    pandas.DataFrame(columns).to_parquet(f"{work}/out/{number}.parquet")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([time.perf_counter() - start, peak]))
"""
"""Fits and transforms in one process without Ray: Ray's start-up time would count against FuxiCTR."""


def fuxictr_config(schema: SchemaConfig, columns: Sequence[str]) -> dict[str, Any]:
    """Builds FuxiCTR's config of a schema's columns; omits sequence statistics, which FuxiCTR does not have."""
    text_columns = {"gender", "age_group", "inventory_id", "hour"}
    used_columns = [column for column in columns if column not in schema.ignore]
    categorical = match_columns(schema.categorical, used_columns, "categorical")
    numeric = match_columns(schema.numeric, used_columns, "numeric")
    features: list[dict[str, Any]] = [
        {"name": name, "active": True, "dtype": "str" if name in text_columns else "float", "type": "categorical"}
        for name in categorical
    ]
    features += [
        {"name": name, "active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"}
        for name in numeric
    ]
    for name, sequence in schema.sequences.items():
        if isinstance(sequence, DelimitedSequence):
            options = {"splitter": sequence.delimiter, "max_len": sequence.max_length, "padding": "pre"}
            features.append({"name": name, "active": True, "dtype": "str", "type": "sequence"} | options)
    label = {"name": schema.label_column, "dtype": "float"}
    return {"feature_cols": features, "label_col": label, "min_count": MIN_COUNT}
