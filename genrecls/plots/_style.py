"""The common look of all figures."""

from matplotlib import pyplot as plt

#: Frequencies in Hz at which spectrograms have ticks.
HZ_TICKS = (200, 500, 1000, 2000, 4000, 8000, 16000)

#: Colours of lines and genres, in their order, which colour-blind people can tell apart (Petroff,
#: arXiv 2107.02270).
COLORS = "#3f90da #ffa90e #bd1f01 #94a4a2 #832db6 #a96b59 #e76300 #b9ac70 #717581 #92dadd".split()

#: Colour of a single quantity, which must not look like one of the genres.
NEUTRAL = "0.35"


def style() -> None:
    """Set the fonts, sizes and colours that all figures of the project share."""
    plt.rcParams.update(
        {
            "figure.dpi": 70,
            "savefig.dpi": 120,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": f"cycler(color={COLORS})",
            "legend.frameon": False,
            "image.cmap": "viridis",
            # The title of a track may contain dollar signs, which do not begin a formula.
            "text.parse_math": False,
        }
    )
