// A molecule on a 2-D canvas: no library, no network, no WebGL. Half bonds, a smooth backbone and beads are sorted by
// depth and painted back to front; at a few thousand atoms that is a few milliseconds a picture.
"use strict";

function decodeScene(element) {
  const scene = JSON.parse(element.textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  scene.bonds = new Int32Array(bytes(scene.bonds));
  scene.atomResidue = new Int32Array(bytes(scene.atomResidue));
  for (const frame of scene.frames) {
    for (const key of ["positions", "beads"]) {
      const whole = new Int16Array(bytes(frame[key]));
      frame[key] = Float32Array.from(whole, (v) => v * scene.scale);
    }
    frame.positions.forEach((_, i) => { frame.positions[i] += frame.origin[i % 3]; });
    frame.beads.forEach((_, i) => { frame.beads[i] += frame.origin[i % 3]; });
  }
  return scene;
}

const ELEMENT_COLORS = {
  H: [214, 214, 214], C: [138, 146, 156], N: [61, 105, 225], O: [226, 61, 52], S: [226, 183, 40],
  P: [240, 134, 40], F: [76, 187, 76], CL: [76, 187, 76], NA: [130, 95, 220], ZN: [125, 128, 176],
};
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const RAINBOW = [[49, 94, 200], [38, 158, 190], [70, 178, 96], [222, 184, 52], [222, 84, 62]];
const DEPTH_LEVELS = 20;
// Parts of a stick that are painted at depths of their own.
const EDGE = 1, BODY = 2, LIGHT = 3;

function ramp(stops, t) {
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((v, k) => v + (stops[i + 1][k] - v) * (at - i));
}

class Viewer {
  constructor(root, scene) {
    this.root = root;
    this.scene = scene;
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.tooltip = root.querySelector(".tooltip");
    this.show = { backbone: true, sticks: true, hydrogens: false, beads: true, flagged: true };
    this.colorBy = "element";
    this.frame = 0;
    this.zoom = 1;
    this.pan = [0, 0];
    this.heavy = scene.elements.map((e) => e !== "H" && e !== "D");
    this.rotation = this.principalView();
    this.home = this.rotation.slice();
    this.measure();
    this.palette = new Map();
    this.prepare();
    this.bindControls();
    this.bindPointer();
    new ResizeObserver(() => this.request()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.palette.clear(); this.request(); });
    this.request();
  }

  // -- geometry -------------------------------------------------------------------------------------------------

  measure() {
    // Largest distance from the centre, and half the width and height of the first view.
    const { positions, origin } = this.scene.frames[0];
    const r = this.rotation;
    this.radius = this.halfWidth = this.halfHeight = 0.3;
    for (let i = 0; i < positions.length; i += 3) {
      const d = [0, 1, 2].map((k) => positions[i + k] - origin[k]);
      this.radius = Math.max(this.radius, Math.hypot(...d) + 0.1);
      this.halfWidth = Math.max(this.halfWidth, Math.abs(r[0] * d[0] + r[1] * d[1] + r[2] * d[2]) + 0.1);
      this.halfHeight = Math.max(this.halfHeight, Math.abs(r[3] * d[0] + r[4] * d[1] + r[5] * d[2]) + 0.1);
    }
  }

  principalView() {
    // The longest axis of the molecule lies across the picture, the shortest points at the reader.
    const { positions, origin } = this.scene.frames[0];
    const c = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
    for (let i = 0; i < positions.length; i += 3) {
      const d = [0, 1, 2].map((k) => positions[i + k] - origin[k]);
      for (let a = 0; a < 3; a++) for (let b = 0; b < 3; b++) c[a][b] += d[a] * d[b];
    }
    const times = (v) => c.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
    const unit = (v) => { const n = Math.hypot(...v) || 1; return v.map((x) => x / n); };
    const without = (v, u) => { const s = v[0] * u[0] + v[1] * u[1] + v[2] * u[2]; return v.map((x, k) => x - s * u[k]); };
    let x = [0.6, 0.5, 0.62], y = [-0.5, 0.7, 0.3];
    for (let n = 0; n < 60; n++) { x = unit(times(x)); y = unit(without(times(y), x)); }
    const z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    return [...x, ...y, ...z];
  }

  prepare() {
    // What is drawn under the present switches, independent of frame and view.
    const { scene, show } = this;
    const bonds = [];
    if (show.sticks) {
      for (let i = 0; i < scene.bonds.length; i += 2) {
        const a = scene.bonds[i], b = scene.bonds[i + 1];
        if (show.hydrogens || (this.heavy[a] && this.heavy[b])) bonds.push(a, b);
      }
    }
    this.visibleBonds = bonds;
    const bonded = new Set(bonds);
    this.loose = show.sticks ? scene.elements.map((_, i) => i).filter((i) => this.heavy[i] && !bonded.has(i)) : [];
    const n = scene.residues.length;
    this.residueTint = scene.residues.map((_, r) => ramp(RAINBOW, n > 1 ? r / (n - 1) : 0.5));
  }

  atomColor(i) {
    const residue = this.scene.atomResidue[i];
    if (this.colorBy === "deviation") return this.deviationColor(residue);
    if (this.colorBy === "residue" ) {
      return this.scene.elements[i] === "C" ? this.residueTint[residue] : ELEMENT_COLORS[this.scene.elements[i].toUpperCase()] || this.residueTint[residue];
    }
    return ELEMENT_COLORS[this.scene.elements[i].toUpperCase()] || [200, 120, 200];
  }

  traceColor(residue) {
    return this.colorBy === "deviation" ? this.deviationColor(residue) : this.residueTint[residue];
  }

  deviationColor(residue) {
    const values = this.scene.frames[this.frame].deviation || [];
    return ramp(VIRIDIS, (values[residue] || 0) / (this.scene.deviationScale || 1));
  }

  // -- drawing --------------------------------------------------------------------------------------------------

  request() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  shade(color, level) {
    // Colours fade into the page with depth; one string for each colour and level is kept.
    const key = (Math.round(color[0]) << 16 | Math.round(color[1]) << 8 | Math.round(color[2])) * DEPTH_LEVELS + level;
    let entry = this.palette.get(key);
    if (!entry) {
      const fog = 0.62 * (1 - level / (DEPTH_LEVELS - 1)) ** 1.2;
      const mix = (c, f) => `rgb(${c.map((v, k) => Math.round(v * f * (1 - fog) + this.page[k] * fog)).join(",")})`;
      entry = [mix(color, 1), mix(color, 0.55), mix(color.map((v) => Math.min(255, v * 0.6 + 102)), 1)];
      this.palette.set(key, entry);
    }
    return entry;
  }

  project(points, out) {
    const r = this.rotation, o = this.scene.frames[this.frame].origin;
    const scale = this.pixels, distance = 4.5 * this.radius;
    for (let i = 0; i < points.length; i += 3) {
      const x = points[i] - o[0], y = points[i + 1] - o[1], z = points[i + 2] - o[2];
      const depth = r[6] * x + r[7] * y + r[8] * z;
      const s = scale * distance / (distance - depth);
      out[i] = this.center[0] + s * (r[0] * x + r[1] * y + r[2] * z);
      out[i + 1] = this.center[1] - s * (r[3] * x + r[4] * y + r[5] * z);
      out[i + 2] = depth;
    }
    return out;
  }

  draw() {
    const { canvas, context, scene, show } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const page = getComputedStyle(this.root).backgroundColor.match(/[\d.]+/g).map(Number);
    if (!this.page || page.some((v, k) => v !== this.page[k])) { this.page = page; this.palette.clear(); }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);

    this.pixels = this.zoom * 0.45 * Math.min(width / this.halfWidth, height / this.halfHeight);
    this.center = [width / 2 + this.pan[0], height / 2 + this.pan[1]];
    const frame = scene.frames[this.frame];
    const at = this.projected = this.project(frame.positions, new Float32Array(frame.positions.length));
    const items = [];
    const thick = Math.max(1.2, 0.028 * this.pixels);
    const level = (z) => Math.max(0, Math.min(DEPTH_LEVELS - 1, Math.round((z / this.radius + 1) / 2 * (DEPTH_LEVELS - 1))));

    const bonds = this.visibleBonds;
    for (let i = 0; i < bonds.length; i += 2) {
      const a = 3 * bonds[i], b = 3 * bonds[i + 1];
      const mx = (at[a] + at[b]) / 2, my = (at[a + 1] + at[b + 1]) / 2, mz = (at[a + 2] + at[b + 2]) / 2;
      const h = this.heavy[bonds[i]] && this.heavy[bonds[i + 1]] ? 1 : 0.6;
      items.push([(at[a + 2] + mz) / 2, at[a], at[a + 1], mx, my, this.atomColor(bonds[i]), h * thick]);
      items.push([(at[b + 2] + mz) / 2, at[b], at[b + 1], mx, my, this.atomColor(bonds[i + 1]), h * thick]);
    }
    for (const i of this.loose) {
      items.push([at[3 * i + 2], at[3 * i], at[3 * i + 1], at[3 * i] + 0.01, at[3 * i + 1], this.atomColor(i), 2.2 * thick]);
    }
    if (show.backbone) this.addTrace(items, frame.positions, show.sticks ? 2.6 * thick : 4.2 * thick);
    if (show.beads) {
      const beads = this.project(frame.beads, new Float32Array(frame.beads.length));
      for (let i = 0; i < beads.length; i += 3) items.push([beads[i + 2], beads[i], beads[i + 1], i / 3]);
    }
    items.sort((p, q) => p[0] - q[0]);

    const fine = items.length < 9000 || !this.dragging;
    for (const item of items) {
      const tone = level(item[0]);
      if (item.length === 4) { this.drawBead(item, tone); continue; }
      const [, x0, y0, x1, y1, color, w, part] = item;
      const [body, edge, light] = this.shade(color, tone);
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      if (!part || part === EDGE) {
        context.strokeStyle = edge;
        context.lineWidth = w + 1.6;
        context.stroke();
      }
      if (!part || part === BODY) {
        context.strokeStyle = body;
        context.lineWidth = w;
        context.stroke();
      }
      if ((!part || part === LIGHT) && fine && w > 2.5) {
        context.lineCap = "butt";
        context.beginPath();
        context.moveTo(x0 - 0.16 * w, y0 - 0.18 * w);
        context.lineTo(x1 - 0.16 * w, y1 - 0.18 * w);
        context.strokeStyle = light;
        context.lineWidth = 0.3 * w;
        context.stroke();
      }
    }
    if (show.flagged) this.drawFlags(frame, at);
  }

  addTrace(items, positions, thick) {
    // Catmull–Rom through the trace atoms.
    const steps = 6;
    for (const trace of this.scene.traces) {
      const points = [];
      for (let i = 0; i + 1 < trace.length; i++) {
        const p = [-1, 0, 1, 2].map((k) => 3 * trace[Math.min(Math.max(i + k, 0), trace.length - 1)]);
        for (let s = 0; s < steps; s++) {
          const t = s / steps;
          for (let k = 0; k < 3; k++) {
            const [a, b, c, d] = p.map((q) => positions[q + k]);
            points.push(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t ** 3));
          }
        }
      }
      const end = 3 * trace[trace.length - 1];
      points.push(positions[end], positions[end + 1], positions[end + 2]);
      const at = this.project(points, new Float32Array(points.length));
      for (let i = 0; i + 3 < at.length; i += 3) {
        const residue = this.scene.atomResidue[trace[Math.min(Math.round(i / 3 / steps), trace.length - 1)]];
        const z = (at[i + 2] + at[i + 5]) / 2, line = [at[i], at[i + 1], at[i + 3], at[i + 4], this.traceColor(residue), thick];
        // The dark rim lies a little behind and the light in front, or each piece would cut a ring into its neighbour.
        items.push([z - 0.12, ...line, EDGE], [z, ...line, BODY], [z + 0.06, ...line, LIGHT]);
      }
    }
  }

  drawBead([, x, y, bead], tone) {
    const { context } = this;
    const color = this.scene.beadBackbone[bead] ? [120, 128, 148] : [86, 158, 122];
    const r = Math.max(3, 0.085 * this.pixels);
    const [body, edge, light] = this.shade(color, tone);
    context.globalAlpha = 0.28;
    const gradient = context.createRadialGradient(x - 0.35 * r, y - 0.4 * r, 0.1 * r, x, y, r);
    gradient.addColorStop(0, light);
    gradient.addColorStop(0.7, body);
    gradient.addColorStop(1, edge);
    context.fillStyle = gradient;
    context.beginPath();
    context.arc(x, y, r, 0, 7);
    context.fill();
    context.globalAlpha = 0.5;
    context.strokeStyle = edge;
    context.lineWidth = 0.8;
    context.stroke();
    context.globalAlpha = 1;
  }

  drawFlags(frame, at) {
    const { context, show } = this;
    context.strokeStyle = "rgb(222,48,48)";
    const flagged = frame.flagged.filter((i) => this.heavy[i] || show.hydrogens);
    context.lineWidth = flagged.length > 40 ? 1 : 2;
    for (const i of flagged) {
      context.beginPath();
      context.arc(at[3 * i], at[3 * i + 1], Math.max(6, 0.075 * this.pixels), 0, 7);
      context.stroke();
    }
  }

  // -- controls -------------------------------------------------------------------------------------------------

  bindControls() {
    const { root } = this;
    for (const box of root.querySelectorAll("input[data-show]")) {
      box.checked = this.show[box.dataset.show];
      box.addEventListener("change", () => { this.show[box.dataset.show] = box.checked; this.prepare(); this.request(); });
    }
    root.querySelector("select").addEventListener("change", (e) => { this.colorBy = e.target.value; this.request(); });
    const slider = root.querySelector("input[type=range]");
    const label = root.querySelector(".frame-label");
    const move = (value) => {
      this.frame = value;
      slider.value = value;
      label.textContent = this.scene.frames[value].label;
      this.request();
    };
    slider.max = this.scene.frames.length - 1;
    slider.addEventListener("input", () => move(Number(slider.value)));
    root.querySelector(".frames").hidden = this.scene.frames.length < 2;
    const play = root.querySelector(".play");
    play.addEventListener("click", () => {
      if (this.timer) { clearInterval(this.timer); this.timer = null; play.textContent = "▶"; return; }
      play.textContent = "❚❚";
      this.timer = setInterval(() => move((this.frame + 1) % this.scene.frames.length), 180);
    });
    root.querySelector(".reset").addEventListener("click", () => {
      this.rotation = this.home.slice(); this.zoom = 1; this.pan = [0, 0]; this.request();
    });
    root.querySelector(".save").addEventListener("click", () => {
      const link = document.createElement("a");
      link.download = "jaxcg.png";
      link.href = this.canvas.toDataURL("image/png");
      link.click();
    });
    move(0);
  }

  turn(dx, dy) {
    const r = this.rotation;
    const about = (a, b, angle) => {
      const c = Math.cos(angle), s = Math.sin(angle);
      for (let k = 0; k < 3; k++) {
        const p = r[3 * a + k], q = r[3 * b + k];
        r[3 * a + k] = c * p - s * q;
        r[3 * b + k] = s * p + c * q;
      }
    };
    about(2, 0, dx * 0.008);
    about(1, 2, dy * 0.008);
    this.request();
  }

  bindPointer() {
    const { canvas } = this;
    const pointers = new Map();
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      pointers.set(e.pointerId, [e.clientX, e.clientY]);
      this.dragging = true;
      this.tooltip.hidden = true;
      canvas.focus({ preventScroll: true });
    });
    canvas.addEventListener("pointermove", (e) => {
      const last = pointers.get(e.pointerId);
      if (!last) { this.pick(e); return; }
      const dx = e.clientX - last[0], dy = e.clientY - last[1];
      if (pointers.size === 2) {
        const other = [...pointers.entries()].find(([id]) => id !== e.pointerId)[1];
        const before = Math.hypot(last[0] - other[0], last[1] - other[1]);
        this.zoomBy(Math.hypot(e.clientX - other[0], e.clientY - other[1]) / Math.max(before, 1));
      } else if (e.shiftKey || e.buttons === 2) {
        this.pan = [this.pan[0] + dx, this.pan[1] + dy];
        this.request();
      } else {
        this.turn(dx, dy);
      }
      pointers.set(e.pointerId, [e.clientX, e.clientY]);
    });
    const up = (e) => { pointers.delete(e.pointerId); this.dragging = pointers.size > 0; this.request(); };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => { this.tooltip.hidden = true; });
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    // The page keeps scrolling until the picture has been clicked.
    canvas.addEventListener("wheel", (e) => {
      if (document.activeElement !== canvas && !e.ctrlKey) return;
      e.preventDefault();
      this.zoomBy(Math.exp(-e.deltaY * 0.0012));
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
      const turns = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
      if (turns[e.key]) { this.turn(...turns[e.key]); e.preventDefault(); }
      if (e.key === "+" || e.key === "=") this.zoomBy(1.15);
      if (e.key === "-") this.zoomBy(1 / 1.15);
    });
  }

  zoomBy(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.2), 30);
    this.request();
  }

  pick(event) {
    if (!this.projected) return;
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, depth = -Infinity;
    for (let i = 0; i < this.heavy.length; i++) {
      if (!this.heavy[i] && !this.show.hydrogens) continue;
      const dx = this.projected[3 * i] - x, dy = this.projected[3 * i + 1] - y;
      if (dx * dx + dy * dy < 49 && this.projected[3 * i + 2] > depth) { best = i; depth = this.projected[3 * i + 2]; }
    }
    this.tooltip.hidden = best < 0;
    if (best < 0) return;
    this.tooltip.textContent = `${this.scene.names[best]} of ${this.scene.residues[this.scene.atomResidue[best]]}`;
    this.tooltip.style.left = `${Math.min(x + 14, box.width - 170)}px`;
    this.tooltip.style.top = `${y + 14}px`;
  }
}

for (const root of document.querySelectorAll(".viewer")) {
  root.viewer = new Viewer(root, decodeScene(document.getElementById(root.dataset.scene)));
}
