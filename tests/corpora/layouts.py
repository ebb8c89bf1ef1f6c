"""Miniatures of image-quality data sets: names, delimiters, headers and oddities as in the real archives."""

from pathlib import Path

import numpy as np
from openpyxl import Workbook
from scipy.io import savemat

from tests.corpora.pictures import encoded, photograph

KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP"}


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(photograph(seed), KINDS[path.suffix.lower()]))


def koniq(root: Path) -> Path:
    """Three images; both resolutions lie beside the scores, as after unpacking both archives."""
    names = ["10004473376.jpg", "10007357496.jpg", "826373.jpg"]
    for number, name in enumerate(names):
        picture(root / "1024x768" / name, number)
        picture(root / "512x384" / name, number)
    (root / "koniq10k_scores_and_distributions.csv").write_text(
        '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
        '"10004473376.jpg",0,0,25,73,7,105,3.82857142857143,0.527278,63.9681147286822\n'
        '"10007357496.jpg",0,3,45,47,1,96,3.47916666666667,0.580003,55.0863416886543\n'
        '"826373.jpg",5,30,52,16,2,105,2.80952380952381,0.837241,40.10\n'
    )
    return root


def spaq(root: Path) -> Path:
    book = Workbook()
    sheet = book.active
    sheet.append(["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"])
    sheet.append(["00001.jpg", 31.29, 24.3, 25.6, 30.9, 48.2, 27.5])
    sheet.append(["00002.jpg", 72, 60.1, 59, 63.2, 71, 70.4])
    (root / "Annotations").mkdir(parents=True)
    book.save(root / "Annotations" / "MOS and Image attribute scores.xlsx")
    for number in (1, 2):
        picture(root / "TestImage" / f"0000{number}.jpg", number)
    return root


def live_wild(root: Path) -> Path:
    """Seven training images first, then three; bmp and JPG, as it happens."""
    names = [f"t{number}.bmp" for number in range(1, 8)] + ["3.bmp", "4.JPG", "1024.JPG"]
    data = root / "ChallengeDB_release" / "Data"
    data.mkdir(parents=True)
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    mos = np.linspace(90, 3.5, len(names)).reshape(1, -1)
    savemat(data / "AllImages_release.mat", {"AllImages_release": cells})
    savemat(data / "AllMOS_release.mat", {"AllMOS_release": mos})
    savemat(data / "AllStdDev_release.mat", {"AllStdDev_release": mos / 5})
    for number, name in enumerate(names):
        inner = "Images/trainingImages" if name.startswith("t") else "Images"
        picture(root / "ChallengeDB_release" / inner / name, number)
    return root


def kadid(root: Path) -> Path:
    base = root / "kadid10k"
    lines = ["dist_img,ref_img,dmos,var"]
    for source in ("I01", "I02"):
        picture(base / "images" / f"{source}.png", int(source[1:]) * 50)
        for kind, level, dmos, var in (("01", "01", 4.57, 0.496), ("01", "05", 1.1, 0.3), ("10", "02", 3.93, 0.814)):
            name = f"{source}_{kind}_{level}.png"
            picture(base / "images" / name, int(source[1:]) * 50 + int(kind) + int(level))
            lines.append(f"{name},{source}.png,{dmos},{var}")
    (base / "dmos.csv").write_text("\n".join(lines) + "\n")
    return root


CSIQ_ROWS = (
    (1600, 1, "noise", 1, 0.061, 0.062),
    (1600, 5, "jpeg 2000", 3, 0.09, 0.51),
    ("boston", 6, "blur", 5, 0.1, 0.9),
    ("boston", 3, "contrast", 2, 0.02, 0.1),
)
CSIQ_FILES = {
    "noise": ("awgn", "AWGN"), "jpeg 2000": ("jpeg2000", "jpeg2000"), "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
}  # fmt: skip


def csiq(root: Path, text: bool = False) -> Path:
    """The sheet's header stands in its fourth line and fourth column; "contrast 4" of boston was not rated."""
    root.mkdir(parents=True, exist_ok=True)
    if text:
        lines = ["\t".join(str(cell) for cell in row) for row in CSIQ_ROWS]
        (root / "csiq.beta.txt").write_text("\n".join(lines) + "\n")
    else:
        book = Workbook()
        book.active.title = "all_by_distortion"
        sheet = book.create_sheet("all_by_image")
        sheet["B2"] = "CSIQ DMOS"
        for place, name in enumerate(("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"), start=4):
            sheet.cell(4, place, name)
        for line, row in enumerate(CSIQ_ROWS, start=5):
            for place, cell in enumerate(row, start=4):
                sheet.cell(line, place, cell)
        book.save(root / "csiq.DMOS.xlsx")
    for seed, (image, _, kind, level, *_) in enumerate(CSIQ_ROWS):
        folder, token = CSIQ_FILES[kind]
        picture(root / "dst_imgs" / folder / f"{image}.{token}.{level}.png", seed)
    picture(root / "dst_imgs" / "contrast" / "boston.contrast.4.png", 7)
    for seed, image in enumerate(("1600", "boston")):
        picture(root / "src_imgs" / f"{image}.png", 20 + seed)
    return root


def tid(root: Path) -> Path:
    """Upper and lower case mixed between the list, the images and the references."""
    base = root / "tid2013"
    names = ["I01_01_1.bmp", "I01_08_5.bmp", "i25_24_3.bmp"]
    files = ["i01_01_1.bmp", "I01_08_5.BMP", "I25_24_3.bmp"]
    for seed, name in enumerate(files):
        picture(base / "distorted_images" / name, seed)
    for seed, name in enumerate(("I01.BMP", "i25.bmp")):
        picture(base / "reference_images" / name, 10 + seed)
    scores = ["5.51429", "2.02564", "4.3"]
    (base / "mos_with_names.txt").write_text("".join(f"{s} {n}\r\n" for s, n in zip(scores, names, strict=True)))
    (base / "mos_std.txt").write_text("0.13013\r\n0.11003\r\n0.2\r\n")
    return root
