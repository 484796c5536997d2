"""Colours against published values, closed forms and properties."""

from __future__ import annotations

import torch

from bench.parts.colours import ciede2000, k_means, lab_to_rgb, rgb_to_lab, to_gamut

# Sharma, Wu & Dalal 2005, table 1: two colours and their difference.
PAIRS = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def random_rgb(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_ciede2000_has_the_published_values_both_ways():
    table = torch.tensor([[float(number) for number in line.split()] for line in PAIRS.split("\n") if line]).double()
    one, other, expected = table[:, :3], table[:, 3:6], table[:, 6]
    for difference in (ciede2000(one, other), ciede2000(other, one)):
        torch.testing.assert_close(difference, expected, rtol=0, atol=5.1e-5)


def test_a_colour_does_not_differ_from_itself():
    lab = rgb_to_lab(random_rgb(4, 3, 8, 8))
    assert ciede2000(lab, lab).abs().max() == 0 and ciede2000(lab, lab).shape == (4, 8, 8)


def test_lab_has_the_known_values():
    rgb = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]]).double()
    lab = [
        [0, 0, 0],
        [100, 0, 0],
        [53.24, 80.09, 67.20],
        [87.74, -86.18, 83.18],
        [32.30, 79.19, -107.86],
        [53.39, 0, 0],
    ]
    torch.testing.assert_close(rgb_to_lab(rgb, -1), torch.tensor(lab).double(), rtol=0, atol=0.01)


def test_rgb_returns_from_lab_along_any_dimension():
    rgb = random_rgb(2, 3, 5, 4)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb)
    last = rgb.movedim(1, -1)
    torch.testing.assert_close(rgb_to_lab(last, -1), rgb_to_lab(rgb).movedim(1, -1))


def test_gradients_are_finite_at_the_ends_of_the_range():
    rgb = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.04045, 0.0, 1.0]], requires_grad=True)
    lab_to_rgb(rgb_to_lab(rgb, -1), -1).sum().backward()
    assert rgb.grad is not None and rgb.grad.isfinite().all()


def test_to_gamut_changes_only_the_chroma_and_only_where_it_must():
    lightness, chroma = 100 * random_rgb(50, 1, 4, 4), 200 * random_rgb(50, 2, 4, 4) - 100
    lab = torch.cat([lightness, chroma], 1)
    mapped = to_gamut(lab)
    rgb = lab_to_rgb(mapped)
    assert rgb.min() > -1e-9 and rgb.max() < 1 + 1e-9
    assert (mapped[:, 0] == lab[:, 0]).all()
    factor = mapped[:, 1:] / lab[:, 1:]
    torch.testing.assert_close(factor[:, 0], factor[:, 1])
    inside = ((lab_to_rgb(lab) >= 0) & (lab_to_rgb(lab) <= 1)).all(1)
    assert 0.1 < inside.double().mean() < 0.9
    assert (factor[:, 0][inside] == 1).all() and (factor[:, 0][~inside] < 1).all()
    further = lab_to_rgb(torch.cat([lab[:, :1], (factor + 2 / 1024) * lab[:, 1:]], 1))
    assert ((further < 0) | (further > 1)).any(1)[~inside].all()


def test_black_and_white_have_no_chroma_in_the_gamut():
    lab = torch.tensor([[0.0, 50.0, 20.0], [100.0, -30.0, 60.0]])
    assert to_gamut(lab, -1)[:, 1:].abs().max() < 0.05


def test_k_means_finds_separate_groups_of_any_size():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    group = torch.tensor([0] * 50 + [1] * 3 + [2] * 10)
    noise = random_rgb(2, len(group), 2).float() - 0.5
    points = centres[group] + noise
    points[1] = points[1].flip(0)
    found, number = k_means(points, 3)
    for i, truth in enumerate((group, group.flip(0))):
        assert len(set(zip(truth.tolist(), number[i].tolist(), strict=True))) == 3
        for g in range(3):
            mean = points[i][truth == g].mean(0)
            torch.testing.assert_close(found[i][number[i][truth == g][0]], mean)


def test_k_means_of_fewer_colours_than_centres_keeps_them_finite():
    found, number = k_means(torch.ones(2, 9, 3), 6)
    assert (found == 1).all() and number.shape == (2, 9)


def test_colours_work_under_vmap():
    rgb = random_rgb(2, 4, 3, 6, 6)
    for function in (lambda x: to_gamut(1.5 * rgb_to_lab(x) - 10), lambda x: lab_to_rgb(100 * x)):
        torch.testing.assert_close(torch.vmap(function)(rgb), torch.stack([function(part) for part in rgb]))
