"""
How many elements are enough?
=============================

A forecast gives cells to a few chosen elements and lets them stand for all. Here the digital reference patient was
forecast once with a colony in every element and then with 5 to 100, and the record of that study is read and drawn.
"""

# %%
# ``oncoscale bench --only particularisation`` makes the record; it says what was compared, and how much of the tumour
# its cells are. "All elements" is a claim about elements: the cells are a sample of the tumour's even then.
import matplotlib.pyplot as plt
import numpy as np

from oncoscale.app.bench import FOLDER, records_of

record = records_of(FOLDER / "results" / "particularisation.json")[0]
parameters = record["parameters"]
last = parameters["days"][-1]
for whole in record["all_elements"]:
    print(f"{whole['cells']} cells a colony: {whole['sampling']['words']}")

# %%
# The error of choosing, with its interval over seeds. The band is what another seed does to a forecast from all
# elements: no choice can be told from all elements below it. The smallest colonies were given the most
# seeds.
COLOURS = {"k-medoids": "#4c78a8", "random": "#f58518", "stratified": "#54a24b"}
LABELS = {
    "volume": "volume, %",
    "surface": "surface, mm",
    "oxygen": "oxygen, mmHg",
    "composition": "composition, percentage points",
}
cells = parameters["cells"][0]
rows = [row for row in record["choice"] if row["cells"] == cells and row["day"] == last]
whole = next(whole for whole in record["all_elements"] if whole["cells"] == cells)
floor, fraction = whole["days"][-1]["floor"], whole["sampling"]["sampled_fraction"]

figure, panels = plt.subplots(2, 2, figsize=(9, 6.5), sharex=True)
for axes, (name, label) in zip(panels.flat, LABELS.items(), strict=True):
    axes.axhspan(floor[name]["least"], floor[name]["most"], color="0.88", lw=0, label="all, another seed")
    for place, method in enumerate(parameters["methods"]):
        chosen = [row for row in rows if row["method"] == method]
        errors = [row["errors"][name] for row in chosen]
        mean = np.array([error["mean"] for error in errors])
        spread = [mean - [error["low"] for error in errors], [error["high"] for error in errors] - mean]
        counts = np.array([row["count"] for row in chosen]) * 1.04 ** (place - 1)
        axes.errorbar(counts, mean, spread, fmt="o-", ms=4, lw=1, capsize=2, color=COLOURS[method], label=method)
    axes.set(xscale="log", ylim=(0, None), ylabel=label)
    axes.set_xticks(parameters["counts"], parameters["counts"])
    axes.set_xticks([], minor=True)
for axes in panels[1]:
    axes.set_xlabel("elements that have a colony")
panels[0, 0].legend(frameon=False, fontsize=8)
figure.suptitle(
    f"day {last:g}: error against all {whole['sampling']['elements']} elements, whose colonies of {cells} cells are "
    f"{fraction:.1e} of the tumour's"
)
figure.tight_layout()

# %%
# What a forecast says of its own error: the half width of its interval from leaving each representative out, against
# the error it really made. Below the line the estimate covers.
figure, axes = plt.subplots(figsize=(5, 4.5))
for method in parameters["methods"]:
    cases = [case for case in record["cases"] if case["method"] == method and case["day"] == last]
    stated = [1.645 * 100 * case["missed"] for case in cases]
    axes.plot(stated, [100 * abs(case["ln_volume"]) for case in cases], ".", color=COLOURS[method], label=method)
most = max(axes.get_xlim()[1], axes.get_ylim()[1])
axes.plot([0, most], [0, most], color="0.5", lw=1)
axes.set(
    xlabel="stated: half of the 90 % interval, %", ylabel="true error of volume, %", xlim=(0, None), ylim=(0, None)
)
axes.legend(frameon=False)
figure.tight_layout()
told = record["leave_one_out"]
print(f"covered: {told['covered']} of {told['cases']} cases")
