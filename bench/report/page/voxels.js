"use strict";
// Draws voxels that turn with the pointer and the arrow keys: <canvas class="voxels" tabindex="0" data-shape="32,32,32"
// data-bits="...">. shape: [D, H, W] as in bench/rays.py; bits: of bench.evaluation.views.pack_voxels, in base64.
// A canvas is prepared and drawn when it first comes near the screen, because a page may have hundreds.
const LIGHT = [0.74, 1, 0.46], COLOUR = [170, 205, 245], FOG = 0.3;  // as in views.py

// Directions away from the viewer, downwards and to the right, along depth, rows and columns: axes of bench/rays.py.
function viewAxes(azimuth, elevation) {
  const [a, e] = [azimuth, elevation].map(degrees => degrees * Math.PI / 180), { sin, cos } = Math;
  return [
    [cos(e) * cos(a), sin(e), -cos(e) * sin(a)],
    [-sin(e) * cos(a), cos(e), sin(e) * sin(a)],
    [sin(a), 0, cos(a)],
  ];
}

function turnable(canvas) {
  const shape = canvas.dataset.shape.split(",").map(Number), stride = [shape[1] * shape[2], shape[2], 1];
  const bytes = atob(canvas.dataset.bits), reach = Math.hypot(...shape);
  const filled = i => bytes.charCodeAt(i >> 3) >> (7 - (i & 7)) & 1;
  // The faces of each voxel without a neighbour, as bits: 2 * axis for the lower side, 2 * axis + 1 for the upper one.
  const open = Uint8Array.from({ length: shape[0] * stride[0] }, (_, i) => {
    let faces = 0;
    if (filled(i)) for (let axis = 0; axis < 3; axis++) {
      const at = Math.floor(i / stride[axis]) % shape[axis];
      if (at === 0 || !filled(i - stride[axis])) faces |= 1 << 2 * axis;
      if (at === shape[axis] - 1 || !filled(i + stride[axis])) faces |= 2 << 2 * axis;
    }
    return faces;
  });
  let azimuth = 35, elevation = 25, waiting = false;

  function draw() {
    waiting = false;
    const context = canvas.getContext("2d"), { width, height } = canvas;
    const [away, down, right] = viewAxes(azimuth, elevation), scale = Math.min(width, height) / reach;
    context.clearRect(0, 0, width, height);
    context.lineWidth = 0.6;
    const x = place => width / 2 + scale * right.reduce((sum, part, axis) => sum + part * (place[axis] - shape[axis] / 2), 0);
    const y = place => height / 2 + scale * down.reduce((sum, part, axis) => sum + part * (place[axis] - shape[axis] / 2), 0);
    // From the far side of each axis to the near one, so that nearer voxels cover farther ones.
    const order = shape.map((size, axis) => Array.from({ length: size }, (_, i) => away[axis] > 0 ? size - 1 - i : i));
    for (const i of order[0]) for (const j of order[1]) for (const k of order[2]) {
      const faces = open[i * stride[0] + j * stride[1] + k];
      if (!faces) continue;
      const depth = [i, j, k].reduce((sum, at, axis) => sum + away[axis] * (at + 0.5 - shape[axis] / 2), 0) / reach + 0.5;
      for (let axis = 0; axis < 3; axis++) {
        const upper = away[axis] < 0;
        if (!(faces >> 2 * axis + upper & 1)) continue;
        const corner = [i, j, k], [u, v] = [0, 1, 2].filter(other => other !== axis);
        if (upper) corner[axis]++;
        context.fillStyle = context.strokeStyle = `rgb(${COLOUR.map(part => part * LIGHT[axis] * (1 - FOG * depth))})`;
        context.beginPath();
        for (const [du, dv] of [[0, 0], [1, 0], [1, 1], [0, 1]]) {
          const place = [...corner];
          place[u] += du;
          place[v] += dv;
          context.lineTo(x(place), y(place));
        }
        context.closePath();
        context.fill();
        context.stroke();  // no gaps between neighbours
      }
    }
  }

  function turn(rightwards, downwards) {
    azimuth -= rightwards;
    elevation = Math.max(-90, Math.min(90, elevation + downwards));
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  canvas.style.touchAction = "pan-y";  // a finger still scrolls the page
  canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", event => { if (event.buttons & 1) turn(event.movementX / 2, event.movementY / 2); });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
    if (!step) return;
    event.preventDefault();
    turn(...step);
  });
  new ResizeObserver(() => {
    const { width, height } = canvas.getBoundingClientRect();
    [canvas.width, canvas.height] = [width, height].map(side => Math.round(side * devicePixelRatio));
    draw();
  }).observe(canvas);
}

const nearScreen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) {
    nearScreen.unobserve(target);
    turnable(target);
  }
}, { rootMargin: "300px" });
document.querySelectorAll("canvas.voxels").forEach(canvas => nearScreen.observe(canvas));
