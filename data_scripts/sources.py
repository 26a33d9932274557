"""Where each data set comes from: addresses, sizes, checksums and terms, one entry a set.

Addresses and checksums that torchvision has are torchvision's. `stated_by` names who states a checksum; where nobody
does, the entry has none, and `fetch` records the checksum of what came first (trust on first use, labelled so).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mirror:
    """One address of a file.

    Attributes:
        url: the address.
        checksum: "md5:..." or "sha256:..."; None where nobody states one.
        stated_by: who states the checksum.
    """

    url: str
    checksum: str | None = None
    stated_by: str = ""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a set.

    Attributes:
        name: the download's file name.
        path: where it goes, relative to the data root: the file itself, or the folder an archive becomes.
        size: bytes of the download.
        mirrors: in the order in which they are tried.
        exact: whether `size` is exact; if not, it is a guide for the reader.
        holds: for an archive, entries of the folder that becomes `path`, wherever it lies inside; () for a plain file.
    """

    name: str
    path: str
    size: int
    mirrors: tuple[Mirror, ...]
    exact: bool = True
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        name: as on the command line.
        title: name and paper.
        page: home page.
        terms: the licence in a few words.
        notice: what the reader is told once, before the first download.
        files: all that is fetched.
        instead: paths under the data root of which any one stands for the whole set.
        own_version: whether a reader's own version of the set (a subset, another image size) is left in peace.
    """

    name: str
    title: str
    page: str
    terms: str
    notice: str
    files: tuple[RemoteFile, ...]
    instead: tuple[str, ...] = ()
    own_version: bool = False


def drive(identity: str) -> str:
    """Return the address at which Google Drive serves a public file's bytes, also past its virus-scan page."""
    return f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t"


def _idx_files(folder: str, hosts: tuple[str, ...], files: dict[str, tuple[int, str]]) -> tuple[RemoteFile, ...]:
    """Files of an MNIST-like set in torchvision's `raw` folder."""
    return tuple(
        RemoteFile(
            name=name,
            path=f"{folder}/raw/{name}",
            size=size,
            mirrors=tuple(Mirror(host + name, f"md5:{md5}", "torchvision") for host in hosts),
        )
        for name, (size, md5) in files.items()
    )


MNIST = Source(
    name="mnist",
    title="MNIST (LeCun et al., 1998)",
    page="http://yann.lecun.com/exdb/mnist/",
    terms="often cited as CC BY-SA 3.0",
    notice="MNIST states no licence itself; it is often cited as CC BY-SA 3.0. Cite LeCun et al. (1998).",
    files=_idx_files(
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        {
            "train-images-idx3-ubyte.gz": (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            "train-labels-idx1-ubyte.gz": (28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            "t10k-images-idx3-ubyte.gz": (1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            "t10k-labels-idx1-ubyte.gz": (4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        },
    ),
)

FASHION_MNIST = Source(
    name="fashionmnist",
    title="Fashion-MNIST (Xiao et al., 2017)",
    page="https://github.com/zalandoresearch/fashion-mnist",
    terms="MIT",
    notice="Fashion-MNIST is under the MIT licence, copyright Zalando SE. Cite Xiao et al. (2017).",
    files=_idx_files(
        "FashionMNIST",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        {
            "train-images-idx3-ubyte.gz": (26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            "train-labels-idx1-ubyte.gz": (29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            "t10k-images-idx3-ubyte.gz": (4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            "t10k-labels-idx1-ubyte.gz": (5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        },
    ),
)

CIFAR10 = Source(
    name="cifar10",
    title="CIFAR-10 (Krizhevsky, 2009)",
    page="https://www.cs.toronto.edu/~kriz/cifar.html",
    terms="no licence stated; research use",
    notice="CIFAR-10 states no licence; its authors ask users to cite Krizhevsky (2009).",
    files=(
        RemoteFile(
            name="cifar-10-python.tar.gz",
            path="cifar-10-batches-py",
            size=170_498_071,
            mirrors=(
                Mirror(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    "md5:c58f30108f718f92721af3b95e74349a",
                    "torchvision",
                ),
            ),
            holds=("data_batch_1", "test_batch", "batches.meta"),
        ),
    ),
    instead=("cifar10_airplane_automobile.npz",),
)

# torchvision's loader wants three more text files, which nothing here reads.
CELEBA = Source(
    name="celeba",
    title="CelebA (Liu et al., 2015), aligned and cropped",
    page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    terms="non-commercial research; images not to be passed on",
    notice=(
        "CelebA is for non-commercial research only, and its images may not be passed on; by downloading you accept "
        "the agreement on its page. Google Drive often refuses the download for a day (quota)."
    ),
    files=tuple(
        RemoteFile(
            name=name,
            path=f"celeba/{name.removesuffix('.zip')}",
            size=size,
            mirrors=(Mirror(drive(identity), f"md5:{md5}", "torchvision"),),
            holds=("000001.jpg", "202599.jpg") if name.endswith(".zip") else (),
        )
        for name, size, identity, md5 in (
            ("list_attr_celeba.txt", 26_721_026, "0B7EVK8r0v71pblRyaVFSWGxPY0U", "75e246fa4810816ffd6ee81facbd244c"),
            ("list_eval_partition.txt", 2_836_386, "0B7EVK8r0v71pY0NSMzRuSXJEVkk", "d32c9cbf5e040fd4025c592c306e6668"),
            ("img_align_celeba.zip", 1_443_490_838, "0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"),
        )
    ),
    own_version=True,
)

# Two different archives of the same images; neither the authors nor WILDS state a checksum.
WATERBIRDS = Source(
    name="waterbirds",
    title="Waterbirds (Sagawa et al., 2020)",
    page="https://github.com/kohpangwei/group_DRO",
    terms="non-commercial research and education",
    notice=(
        "Waterbirds is made of CUB-200-2011 and Places images: for non-commercial research and education only. Cite "
        "Sagawa et al. (2020), Wah et al. (2011) and Zhou et al. (2017)."
    ),
    files=(
        RemoteFile(
            name="waterbirds.tar.gz",
            path="waterbirds_v1.0",
            size=470_000_000,
            exact=False,
            mirrors=(
                Mirror("https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz"),
                Mirror(
                    "https://worksheets.codalab.org/rest/bundles/0x505056d5cdea4e4eaa0e242cbfe2daa4/contents/blob/",
                ),
            ),
            holds=("metadata.csv",),
        ),
    ),
    instead=("waterbird_complete95_forest2water2/metadata.csv",),
)

# The first mirrors are DomainBed's. The others hold the same images in other archives, for which nobody states a sum.
PACS = Source(
    name="pacs",
    title="PACS (Li et al., 2017)",
    page="https://domaingeneralization.github.io/",
    terms="no licence stated; research use",
    notice="PACS states no licence; it is used for research. Cite Li et al. (2017).",
    files=(
        RemoteFile(
            name="PACS.zip",
            path="PACS",
            size=174_000_000,
            exact=False,
            mirrors=(
                Mirror(
                    drive("1JFr8f805nMUelQWWmfnJR3y4_SYoN5Pd"),
                    "md5:fd5db817f7cdafeef3bfd525aaf9b42e",
                    "one public loader, not the authors",
                ),
                Mirror("https://wjdcloud.blob.core.windows.net/dataset/PACS.zip"),
            ),
            holds=("art_painting", "cartoon", "photo", "sketch"),
        ),
    ),
)

OFFICE_HOME = Source(
    name="officehome",
    title="Office-Home (Venkateswara et al., 2017)",
    page="https://www.hemanthdv.org/officeHomeDataset.html",
    terms="non-commercial research and education",
    notice=(
        "Office-Home holds copyrighted images under a fair-use notice: for non-commercial research and education "
        "only. Cite Venkateswara et al. (2017)."
    ),
    files=(
        RemoteFile(
            name="office_home.zip",
            path="office_home",
            size=1_100_000_000,
            exact=False,
            mirrors=(
                Mirror(
                    drive("1uY0pj7oFsjMxRwaD3Sxy0jgel0fsYXLC"),
                    "md5:b1c14819770c4448fd5b6d931031c91c",
                    "four public loaders, not the authors",
                ),
                Mirror("https://wjdcloud.blob.core.windows.net/dataset/OfficeHome.zip"),
            ),
            holds=("Art", "Clipart", "Product", "Real World"),
        ),
    ),
)

VLCS = Source(
    name="vlcs",
    title="VLCS (Fang et al., 2013)",
    page="https://github.com/facebookresearch/DomainBed",
    terms="no licence stated; research use",
    notice=(
        "VLCS is made of Caltech101, LabelMe, SUN09 and VOC2007 images, under those sets' terms; it states no licence "
        "of its own. Cite Fang et al. (2013)."
    ),
    files=(
        RemoteFile(
            name="VLCS.tar.gz",
            path="VLCS",
            size=3_600_000_000,
            exact=False,
            mirrors=(
                Mirror(
                    drive("1skwblH1_okBwxWxmRsp9_qi15hyPpxg8"),
                    "md5:8870171eba660927d9668f4e515928e4",
                    "one public loader, not the authors",
                ),
                Mirror("https://wjdcloud.blob.core.windows.net/dataset/VLCS/VLCS.zip"),
            ),
            holds=("Caltech101", "LabelMe", "SUN09", "VOC2007"),
        ),
    ),
)

SOURCES = {
    source.name: source for source in (MNIST, FASHION_MNIST, CIFAR10, CELEBA, WATERBIRDS, PACS, OFFICE_HOME, VLCS)
}


def plain_name(name: str) -> str:
    """Return a name's letters and digits in lower case: copies of Office-Home write "Real World" in three ways.

    >>> plain_name("Real_World") == plain_name("RealWorld")
    True
    """
    return "".join(letter for letter in name.lower() if letter.isalnum())
