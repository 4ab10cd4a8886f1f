"""The photographs that pages show."""

from PIL import Image

from dabook.show import photographs


def test_samples_are_the_readers_or_those_of_scikit_image(tmp_path):
    for i in range(8):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(tmp_path / f"{i}.png")
    mine = photographs.samples(str(tmp_path))
    assert [s["name"] for s in mine] == [f"{i}.png" for i in range(6)]
    assert photographs.samples()[0]["name"] == "motorcycle"
