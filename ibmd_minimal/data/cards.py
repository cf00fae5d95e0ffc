"""What every data set is, how large, under which licence, what to cite; and what to type where one is missing."""

from __future__ import annotations

from pathlib import Path

from . import solids as rendered
from .download import MEGABYTES

CARDS = {
    "photos": "the photographs that scikit-image carries for its examples, 7 to train, 4 to test, for demonstration. "
    "Size: 3.6 MB, inside scikit-image's wheel. Licence: public domain or CC0; the stereo pair of motorcycles "
    "(Middlebury 2014) states none. Cite: van der Walt et al., scikit-image, PeerJ 2:e453, 2014.",
    "bsds500": "the Berkeley Segmentation Data Set, 500 photographs of 481x321 pixels or 321x481, 300 to train (its "
    f"train and val) and 200 to test. Size: {MEGABYTES} MB. Licence: free for non-commercial research and education. "
    "Cite: Arbelaez, Maire, Fowlkes, Malik, TPAMI 33(5), 2011.",
    "fashion-mnist": "grey pictures of clothes, 28x28 pixels, in 10 classes, 60,000 to train and 10,000 to test. Size: "
    "about 30 MB to fetch, 86 MB on the disk. Licence: MIT. Cite: Xiao, Rasul, Vollgraf, arXiv:1708.07747, 2017.",
    "cifar-10": "small photographs, 32x32 pixels, in 10 classes, 50,000 to train and 10,000 to test. Size: about 170 "
    "MB to fetch, twice that on the disk. Licence: none is stated. Cite: Krizhevsky, Learning Multiple Layers of "
    "Features from Tiny Images, 2009.",
    "celeba": "faces of celebrities, aligned, 178x218 pixels, 162,770 to train and 19,962 to test. Size: about 1.4 GB "
    "to fetch, twice that on the disk. Licence: non-commercial research only. Cite: Liu, Luo, Wang, Tang, ICCV 2015.",
    "edges2handbags": "a handbag's edges (xT) and its photograph (x0) side by side in one image, each 256x256 pixels, "
    "about 138,000 pairs to train and, to test, the 200 of its val. Size: about 8 GB. Licence: released with pix2pix "
    "(BSD); none is stated for the product photographs. Cite: Isola, Zhu, Zhou, Efros, CVPR 2017, and, for the "
    "photographs, Zhu et al., ECCV 2016.",
    "diode": "scanned scenes, indoors and outdoors, 1024x768 pixels: surface normals (xT) and photographs (x0), about "
    "25,000 pairs to train and, to test, the 771 of its val. Size: about 81 GB with depth and 126 GB of normals to "
    "train, about 2.6 GB and 4.6 GB to test. Licence: MIT. Cite: Vasiljevic et al., arXiv:1908.00463, 2019.",
    "imagenet": "photographs in 1,000 classes, a folder each, 1.28 million to train and the 50,000 of its val to test. "
    "Size: about 150 GB. Licence: research terms, agreed to at image-net.org. Cite: Deng et al., CVPR 2009, and "
    "Russakovsky et al., IJCV 115(3), 2015.",
}
CALL = "type `python -c \"from torchvision.datasets import {0}; {0}('ROOT', download=True)\"`"
TYPE = {  # where to get a set and what to type; ROOT stands for the data folder
    "fashion-mnist": CALL.format("FashionMNIST"),
    "cifar-10": CALL.format("CIFAR10"),
    "celeba": "type `python -m pip install gdown` and then " + CALL.format("CelebA").removeprefix("type "),
    "edges2handbags": "type `mkdir -p 'ROOT' && curl -L http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"
    "edges2handbags.tar.gz | tar xz -C 'ROOT'`",
    "diode": "type `mkdir -p 'ROOT/diode' && for part in train train_normals val val_normals; do curl -L "
    "http://diode-dataset.s3.amazonaws.com/$part.tar.gz | tar xz -C 'ROOT/diode'; done`",
    "imagenet": "fetch ILSVRC2012's archives train, val and devkit (task 1 and 2) from image-net.org into "
    "ROOT/imagenet and type `python -c \"from torchvision.datasets import ImageNet as I; [I('ROOT/imagenet', s) for "
    "s in ('train', 'val')]\"`",
}


def cards() -> dict[str, str]:
    """One paragraph for each name: what it is, its size, its licence, what to cite."""
    return {"solids": rendered.CARD} | {name: f"{name}: {card}" for name, card in CARDS.items()}


def how_to_get(name: str, root: Path) -> str:
    """Where a missing set is to be had, what to type, and how large it is, for the end of a sentence."""
    size = CARDS[name].partition("Size: ")[2].partition(". Licence")[0]
    return f"{TYPE[name].replace('ROOT', str(root))} ({size}), or let IBMD_DATA name the folder that holds it"
