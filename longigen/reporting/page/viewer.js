// The viewer: two NiiVue canvases of the same place, one above the other. The upper one shows the volume of the slider's
// stop and is cut off where the wipe is, so that the lower one, with what it is compared with, shows beside it.
"use strict";

// Differences are the more opaque the larger they are, up to this part of the end of their scale.
const COLOURS = { above: [255, 90, 64], below: [64, 153, 255] };
const OPAQUE = 0.6;
const TRANSLUCENT_BELOW_MIN = 1; // as NiiVue 0.69 draws volumes, whatever its COLORMAP_TYPE says

const viewer = (() => {
  const root = document.getElementById("viewer");
  if (!root) return null;
  const scenes = JSON.parse(document.getElementById("scenes").textContent);
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const [subject, stop, against, wipe, overlay, opacity] = ["subject", "stop", "against", "wipe", "overlay", "opacity"].map(find);
  const above = find("above"), below = find("below");
  const volumes = new Map();
  let upper, lower, scene, turn = 0;

  async function unpacked(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function decoded(id) {
    const node = document.getElementById(id);
    return node && Uint8Array.from(atob(node.textContent.trim()), (letter) => letter.charCodeAt(0));
  }

  // A volume is in the page itself, or the server that gave the page has it.
  async function read(key) {
    if (!volumes.has(key)) {
      const bytes = decoded(`volume-${key}`);
      const content = bytes || (await (await fetch(`volumes/${encodeURIComponent(key)}`)).arrayBuffer());
      volumes.set(key, await unpacked(content));
    }
    return volumes.get(key);
  }

  const image = (buffer, name, options) =>
    niivue.NVImage.loadFromUrl({ url: name, name, buffer: buffer.slice(0), ...options });

  // The difference of two volumes with the same header, as a NIfTI volume of 32-bit numbers.
  function difference(first, second) {
    const head = new DataView(first), little = head.getInt32(0, true) === 348;
    const wide = head.getInt16(72, little) === 16;
    const voxels = (buffer) => (wide ? new Uint16Array(buffer, 352) : new Uint8Array(buffer, 352));
    const a = voxels(first), b = voxels(second), slope = head.getFloat32(112, little);
    const result = new ArrayBuffer(352 + 4 * a.length);
    new Uint8Array(result).set(new Uint8Array(first, 0, 352));
    const out = new DataView(result), values = new Float32Array(result, 352);
    out.setInt16(70, 16, little);
    out.setInt16(72, 32, little);
    out.setFloat32(112, 1, little);
    out.setFloat32(116, 0, little);
    for (let i = 0; i < a.length; i++) values[i] = (a[i] - b[i]) * slope;
    return result;
  }

  function replace(canvas, images) {
    for (const old of [...canvas.volumes]) canvas.removeVolume(old);
    for (const next of images) canvas.addVolume(next);
  }

  async function show() {
    const mine = ++turn, at = scene.stops[stop.value];
    const other = at.against[against.value];
    find("stop-label").textContent = `${at.label} (${Number(stop.value) + 1} of ${scene.stops.length})`;
    find("left").textContent = at.label;
    find("right").textContent = other ? other.label : "";
    wipe.disabled = overlay.disabled = opacity.disabled = !other;
    const grey = { colormap: "gray", cal_min: scene.window[0], cal_max: scene.window[1] };
    const shown = await read(at.key), compared = other ? await read(other.key) : shown;
    const layers = [[await image(shown, "shown.nii", grey)], [await image(compared, "compared.nii", grey)]];
    if (other && overlay.checked) {
      const least = scene.limit * OPAQUE, changed = difference(compared, shown);
      const colours = { colormap: "above", colormapNegative: "below", cal_min: least, cal_max: scene.limit };
      for (const layer of layers) {
        const drawn = await image(changed, "difference.nii", { ...colours, opacity: Number(opacity.value) });
        drawn.cal_minNeg = -scene.limit;
        drawn.cal_maxNeg = -least;
        drawn.colormapType = TRANSLUCENT_BELOW_MIN;
        layer.push(drawn);
      }
    }
    if (mine !== turn) return; // the slider has moved on
    const place = upper.volumes.length ? [...upper.scene.crosshairPos] : null;
    replace(upper, layers[0]);
    replace(lower, layers[1]);
    upper.scene.crosshairPos = lower.scene.crosshairPos = place || upper.mm2frac(scene.place);
    upper.drawScene();
    lower.drawScene();
    cut();
    root.dataset.shown = `${subject.value} ${stop.value} ${against.value} ${overlay.checked}`;
  }

  // The wipe crosses each of the three planes at the same part of its width.
  function cut() {
    const other = scene.stops[stop.value].against[against.value];
    const part = other ? wipe.value / 100 : 1, scale = upper.uiData.dpr || 1;
    const path = upper.screenSlices.map(({ leftTopWidthHeight: [left, top, width, height] }) => {
      const [x, y, w, h] = [left, top, width * part, height].map((value) => value / scale);
      return `M${x} ${y}h${w}v${h}h${-w}Z`;
    });
    above.style.clipPath = `path("${path.join("") || "M0 0Z"}")`;
    find("lines").replaceChildren(
      ...(other && part > 0 && part < 1 ? upper.screenSlices : []).map(({ leftTopWidthHeight: [left, top, width, height] }) => {
        const line = document.createElement("i");
        Object.assign(line.style, {
          left: `${(left + width * part) / scale}px`, top: `${top / scale}px`, height: `${height / scale}px`,
        });
        return line;
      }),
    );
    root.dataset.wipe = String(part);
  }

  function chooseStop() {
    const chosen = against.value;
    against.replaceChildren(...scene.stops[stop.value].against.map((other, number) => new Option(other.label, number)));
    if (against.options[chosen]) against.value = chosen;
    against.disabled = against.options.length < 2;
    return show();
  }

  function chooseScene() {
    scene = scenes[subject.value];
    volumes.clear();
    stop.max = scene.stops.length - 1;
    const first = scene.stops.findLastIndex((at) => at.against.length);
    stop.value = first < 0 ? 0 : first;
    find("note").textContent =
      `${scene.note} Grey from ${scene.window[0].toPrecision(4)} to ${scene.window[1].toPrecision(4)}; differences ` +
      `(right minus left) from blue (-${scene.limit.toPrecision(3)}) to red (${scene.limit.toPrecision(3)}).`;
    upper.volumes.slice().forEach((old) => upper.removeVolume(old));
    return chooseStop();
  }

  async function start() {
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpacked(decoded("niivue")));
    document.head.append(script);
    const options = {
      backColor: [0, 0, 0, 1], show3Dcrosshair: false, isColorbar: false, logLevel: "error", crosshairWidth: 0.2, crosshairGap: 6,
      crosshairColor: [1, 0.82, 0.35, 0.6], fontColor: [1, 0.82, 0.35, 1], dragMode: 3, loadingText: "", isNearestInterpolation: true,
      isCornerOrientationText: true, crosshairWidthUnit: "mm",
    };
    [lower, upper] = [new niivue.Niivue(options), new niivue.Niivue(options)];
    for (const [view, canvas] of [[lower, below], [upper, above]]) {
      await view.attachToCanvas(canvas);
      for (const [name, [red, green, blue]] of Object.entries(COLOURS)) {
        view.addColormap(name, { R: [red, red], G: [green, green], B: [blue, blue], A: [0, 255], I: [0, 255] });
      }
      view.setSliceType(view.sliceTypeMultiplanar);
      view.opts.multiplanarShowRender = niivue.SHOW_RENDER.NEVER;
      view.setMultiplanarLayout(niivue.MULTIPLANAR_TYPE.ROW);
    }
    upper.broadcastTo([lower], { "2d": true });
    lower.broadcastTo([upper], { "2d": true });
    scenes.forEach((each, number) => subject.add(new Option(each.title, number)));
    subject.addEventListener("change", chooseScene);
    stop.addEventListener("input", chooseStop);
    for (const control of [against, overlay]) control.addEventListener("change", show);
    opacity.addEventListener("change", show);
    wipe.addEventListener("input", cut);
    new ResizeObserver(() => requestAnimationFrame(cut)).observe(root);
    await chooseScene();
    root.dataset.ready = "true";
  }

  return start().catch((error) => {
    find("note").textContent = `The volumes cannot be shown here: ${error.message}. The viewer needs WebGL 2.`;
    console.error(error);
  });
})();
