"""The tables of results/*.csv in Markdown: of each, the function that makes it."""

import statistics

import study

CONTENDERS = {
    "tensorflow": "keras_lrseg, TensorFlow",
    "jax": "keras_lrseg, JAX",
    "torch": "keras_lrseg, PyTorch",
    "torch-compile": "keras_lrseg, PyTorch, compiled",
    "torch-graph": "keras_lrseg, PyTorch, `jit_compile`",
    "plain": "plain PyTorch",
    "plain-compile": "plain PyTorch, compiled",
    "segformer": "transformers, PyTorch",
}
MODELS = (  # in the order of a table
    *("LRFormerT", "LRFormerS", "OffSegT", "OffSegB", "SegFormerB0"),
    *("SegFormerB0-offset", "SegNeXtT", "SegNeXtT-offset"),
)
PRECISIONS = ("float32", "float16", "weight_int8", "dynamic_int8", "int8")
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def forward_table(rows: list[dict]) -> str:
    """A line for each model and contender, a column for each size."""
    # Of a group and size only the last run: ratios of others have another denominator.
    last = {(row["group"], size_of(row)): row["commit"] for row in rows}
    rows = [row for row in rows if row["commit"] == last[row["group"], size_of(row)]]
    rows = newest(rows, ("group", "contender", "height", "width"))
    sizes = sorted({size_of(row) for row in rows})
    lines = {}
    order = list(CONTENDERS)
    rows.sort(key=lambda r: (MODELS.index(r["group"]), order.index(r["contender"])))
    for row in rows:
        cell = milliseconds(row["median_ms"], row["ratio_to_plain"])
        key = (row["group"], row["model"], CONTENDERS[row["contender"]])
        lines.setdefault(key, {})[size_of(row)] = cell
    body = [
        [*key[1:], *(cells.get(size, "") for size in sizes)]
        for key, cells in lines.items()
    ]
    note = (
        "Median of the forward pass, batch 1, float32, "
        f"{values(rows, 'threads')} threads; in brackets the ratio to plain PyTorch in "
        "the same run"
    )
    header = ["model", "implementation", *map("{0[0]}×{0[1]}".format, sizes)]
    return markdown(header, body) + caption(note, rows)


def offset_table(rows: list[dict]) -> str:
    """A line for each number of classes and contender."""
    rows = newest(rows, ("classes", "contender"))
    order = list(CONTENDERS)
    rows.sort(key=lambda r: (int(r["classes"]), order.index(r["contender"])))
    header = ["classes", "implementation", "forward", "forward and backward"]
    body = [
        [
            row["classes"],
            CONTENDERS[row["contender"]],
            milliseconds(row["forward_ms"], row["forward_ratio_to_plain"]),
            milliseconds(row["step_ms"], row["step_ratio_to_plain"]),
        ]
        for row in rows
    ]
    note = (
        f"Median for features of {values(rows, 'channels')} channels on "
        f"{values(rows, 'height')}×{values(rows, 'width')} pixels, batch 1, float32, "
        f"{values(rows, 'threads')} threads; in brackets the ratio to the equations as "
        "the paper writes them, in plain PyTorch"
    )
    return markdown(header, body) + caption(note, rows)


def masks_table(rows: list[dict]) -> str:
    """A line for each model and contender."""
    rows = newest(rows, ("group", "contender"))
    names = {**BACKENDS, "transformers": CONTENDERS["segformer"]}
    body = [
        [
            row["model"],
            names[row["contender"]],
            milliseconds(row["forward_ms"], row["forward_ratio"]),
            milliseconds(row["step_ms"], row["step_ratio"]),
        ]
        for row in rows
    ]
    note = (
        f"Median at {values(rows, 'size')} pixels a side, batch 1, float32, "
        f"{values(rows, 'threads')} threads; in brackets the ratio to Mask2Former with "
        "Swin-T of transformers in the same run"
    )
    header = ["model", "implementation", "forward", "training step"]
    return markdown(header, body) + caption(note, rows)


def carafe_table(rows: list[dict]) -> str:
    """A line for each contender and form, three columns for each model."""
    rows = newest(rows, ("model", "contender", "form"))
    models = sorted({row["model"] for row in rows}, key=MODELS.index)
    names, lines = {**BACKENDS, "plain": CONTENDERS["plain"]}, {}
    for row in rows:
        line = lines.setdefault((names[row["contender"]], row["form"]), {})
        line[row["model"]] = [
            milliseconds(row["forward_ms"], row["forward_ratio"]),
            milliseconds(row["step_ms"], row["step_ratio"]),
            # TensorFlow keeps what it frees: that it takes no more says nothing.
            f"{row['forward_mib']} / {row['step_mib']}"
            if row["backend"] != "tensorflow"
            else "",
        ]
    header = ["in", "form"]
    for model in models:
        header += [f"{model}: forward", "with gradients", "MiB of each"]
    body = [
        [*key, *(cell for model in models for cell in line.get(model, [""] * 3))]
        for key, line in lines.items()
    ]
    note = (
        "Median of all reassemblies of a decoder for 512×512 pixels, batch 1, float32, "
        f"{values(rows, 'threads')} threads, and what resident memory grows by; in "
        "brackets the ratio to the library with the same backend"
    )
    return markdown(header, body) + caption(note, rows)


def memory_table(rows: list[dict]) -> str:
    """A line for each model, backend and size."""
    rows = newest(rows, ("model", "backend", "height", "width"))
    header = ["model", "backend", "size", "attention", "pixels", "peak"]
    header += ["of the step", "ratio", "a megapixel more"]
    body = []
    for row in rows:
        cells = [row["model"], BACKENDS[row["backend"]]]
        cells += ["{}×{}".format(*size_of(row))]
        flops = row["attention_flops"]
        cells += [f"{int(flops) / 1e9:.2f} G" if flops else ""]
        cells += [f"{row['pixels_ratio']}×"]
        if row["status"] == "ok":
            cells += [gib(row["second_peak_mib"]), gib(row["step_mib"])]
            cells += [f"{row['memory_ratio']}×", gib(row["mib_per_mpixel"])]
        else:
            cells += [row["status"], "", "", ""]
        body.append(cells)
    note = (
        "Multiply-accumulates of the attention products; resident memory of one "
        "training step, batch 1, float32; ratios are to the "
        "first size, the step's are without the built model; machine with "
        f"{values(rows, 'memory_gib')} GiB"
    )
    return markdown(header, body) + caption(note, rows)


def data_table(rows: list[dict]) -> str:
    """A line for each stage and stream."""
    rows = newest(rows, ("case",))
    columns = ("case", "crop", "images_per_second", "cpu_ms_per_image", "cores_busy")
    header = ["", "crop", "images/s", "ms of a core", "cores busy"]
    body = [[row[column] for column in columns] for row in rows]
    return markdown(header, body) + caption("Stages on one image, streams whole", rows)


def profile_table(rows: list[dict]) -> str:
    """A line for each row; the same on any machine, so without a caption."""
    header = ["model", "classes", "size", "params", "FLOPs", "attention"]
    header += ["paper: table", "params", "FLOPs"]
    body = []
    for row in rows:
        cells = profile_cells(row, "flops", "attention_flops")
        cells += [row["paper_table"]]
        cells += published_cells(row, "paper_params_m", "paper_flops_g")
        body.append(cells)
    return markdown(header, body)


def offseg_profile_table(rows: list[dict]) -> str:
    """The same with the figures of the authors' code."""
    header = ["model", "classes", "size", "params", "FLOPs", "convolutions"]
    header += ["as published", "paper: params", "FLOPs", "authors' code: params"]
    header += ["FLOPs"]
    body = []
    for row in rows:
        cells = profile_cells(row, "flops", "conv_flops", "published_flops")
        for source in ("paper", "code"):
            columns = f"{source}_params_m", f"{source}_flops_g"
            cells += published_cells(row, *columns)
        body.append(cells)
    return markdown(header, body)


def profile_cells(row: dict, *flops: str) -> list[str]:
    cells = [row["model"], row["classes"], "{}×{}".format(*size_of(row))]
    cells += [f"{int(row['params']) / 1e6:.2f} M"]
    return cells + [f"{int(row[column]) / 1e9:.2f} G" for column in flops]


def published_cells(row: dict, params: str, flops: str) -> list[str]:
    columns = ((params, "M"), (flops, "G"))
    return [f"{n} {unit}" if (n := row[column]) else "" for column, unit in columns]


def study_table(rows: list[dict]) -> str:
    """A line for each configuration: the mean over the seeds, and each of them."""
    rows = newest(rows, ("configuration", "seed"))
    groups = [x for x in ("small", "medium", "large") if f"miou_{x}" in rows[0]]
    body = []
    names = {row["configuration"] for row in rows}
    order = [name for each in study.STUDIES.values() for name in each.models]
    for name in sorted(names, key=order.index):
        mine = [row for row in rows if row["configuration"] == name]
        scores = [float(row["miou"]) for row in mine]
        cells = [name, f"{int(mine[0]['params']) / 1e6:.2f} M"]
        cells += [f"{int(mine[0]['flops_256']) / 1e9:.2f} G"]
        cells += [f"{statistics.mean(scores):.3f}"]
        cells += [", ".join(f"{score:.3f}" for score in scores)]
        for group in groups:
            mean = statistics.mean(float(row[f"miou_{group}"]) for row in mine)
            cells.append(f"{mean:.3f}")
        body.append(cells)
    header = ["configuration", "params", "FLOPs at 256×256", "mean mIoU", "seeds"]
    header += [f"{group} classes" for group in groups]
    first = rows[0]
    note = (
        f"Validation mIoU after {first['steps']} steps, batch {first['batch']}, crops "
        f"of {first['crop']} pixels"
    )
    return markdown(header, body) + caption(note, rows)


def mobile_table(rows: list[dict]) -> str:
    """A line for each model and precision, a column for each size and output."""
    rows = newest(rows, ("model", "precision", "height", "output", "threads"))
    groups = [
        (size, output, threads)
        for size in ("256", "512")
        for output in ("logits", "labels", "full")
        for threads in ("1", "2")
        if output == "logits" or (size, threads) == ("512", "1")
    ]

    def order(key):
        model, precision = key
        models = (*MODELS, "hub", "selfie")
        return models.index(model), ("plain", *PRECISIONS).index(precision)

    lines = {}
    for row in rows:
        line = lines.setdefault((row["model"], row["precision"]), {})
        line[row["height"], row["output"], row["threads"]] = row["median_ms"]
        line["MiB"] = row["size_mib"]
        line["parts"] = row["parts"]
    header = ["model", "precision", "MiB", "XNNPACK parts"]
    header += [
        f"{size}² {output}, {n} thread{'s' * (n > '1')}" for size, output, n in groups
    ]
    body = [
        [*key, line["MiB"], line["parts"], *(line.get(group, "") for group in groups)]
        for key, line in sorted(lines.items(), key=lambda item: order(item[0]))
    ]
    peak = " and ".join(
        max((r["peak_gmac_per_s"] for r in rows if r["threads"] == n), key=float)
        for n in ("1", "2")
    )
    note = (
        "Median milliseconds of an image in LiteRT, 150 classes; a matrix product "
        f"reaches {peak} G multiply-accumulates a second with 1 and 2 threads"
    )
    return markdown(header, body) + caption(note, rows)


def quantization_table(rows: list[dict]) -> str:
    """A line for each model and precision."""
    rows = newest(rows, ("model", "precision"))
    columns = {
        "model": "model",
        "precision": "precision",
        "size_mib": "MiB",
        "miou": "mIoU",
        "agreement": "labels as in float32",
        "ms_1_threads": "ms, 1 thread",
        "ms_2_threads": "2 threads",
    }
    body = [[row[column] for column in columns] for row in rows]
    note = (
        "Trained and scored on the demo data, 256×256, the files run in LiteRT; int8 "
        f"calibrated on {values(rows, 'calibration')} training tiles"
    )
    return markdown(list(columns.values()), body) + caption(note, rows)


def training_table(rows: list[dict]) -> str:
    """A line for each precision and contender."""
    rows = newest(rows, ("model", "crop", "batch", "precision", "contender"))
    body = [
        [
            row["model"],
            CONTENDERS[row["contender"]],
            row["precision"],
            f"{row['images_per_s']} ({float(row['ratio_to_plain']):.2f}×)",
            f"{int(row['peak_mib']) / 1024:.1f} GiB",
        ]
        for row in rows
    ]
    note = (
        f"Median of {values(rows, 'rounds')} rounds, crops of {values(rows, 'crop')} "
        f"pixels a side, batch {values(rows, 'batch')}; in brackets the ratio of the "
        "times to plain PyTorch with automatic mixed precision in the same run"
    )
    header = ["model", "implementation", "precision", "images a second", "peak memory"]
    return markdown(header, body) + caption(note, rows)


TABLES = {
    "data_pipeline": data_table,
    "training": training_table,
    "training_overhead": training_table,
    "forward_lrformer": forward_table,
    "mobile": mobile_table,
    "quantization": quantization_table,
    "forward_offseg": forward_table,
    "offset_learning": offset_table,
    "carafe": carafe_table,
    "masks": masks_table,
    "memory": memory_table,
    "profile_lrformer": profile_table,
    "profile_offseg": offseg_profile_table,
    **dict.fromkeys(map("study_{}".format, study.STUDIES), study_table),
}


def newest(rows: list[dict], key: tuple[str, ...]) -> list[dict]:
    """The last row for each value of the key columns, all from the last machine."""
    rows = [row for row in rows if row["hardware"] == rows[-1]["hardware"]]
    return list({tuple(row[column] for column in key): row for row in rows}.values())


def size_of(row: dict) -> tuple[int, int]:
    return int(row["height"]), int(row["width"])


def milliseconds(median: str, ratio: str) -> str:
    cell = f"{float(median):.0f} ms"
    return f"{cell} ({float(ratio):.2f}×)" if ratio else cell


def gib(mib: str) -> str:
    return f"{float(mib) / 1024:.1f} GiB" if mib else ""


def values(rows: list[dict], column: str) -> str:
    """The different values of a column, in order of appearance."""
    parts = (part for row in rows for part in row[column].split(", "))
    return ", ".join(dict.fromkeys(part for part in parts if part))


def caption(note: str, rows: list[dict]) -> str:
    columns = ("hardware", "os", "versions", "date")
    where = "; ".join(values(rows, column) for column in columns)
    return f"\n\n{note}. {where}; commit {values(rows, 'commit')}."


def markdown(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
