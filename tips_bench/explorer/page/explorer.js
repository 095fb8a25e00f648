// The page: its controls, and what is drawn.

const byId = id => document.getElementById(id);
const MODES = { photo: "Photo", colors: "PCA colors", similarity: "Similarity", matches: "Matches", classes: "Classes", depth: "Depth", normals: "Normals" };
const HINTS = {
  photo: "Click a photo to see what is like that patch.",
  colors: "Click a patch to see what is like it. The colors are the first three principal components of all patches; a color means the same in every photo.",
  similarity: "Click a patch, or move it with the arrow keys. The brighter, the more alike.",
  matches: "Patches of two photos that are each other's nearest.",
  classes: "Each place has the color of the name that is nearest to it.",
  depth: "Depth in meters by a linear map of the features, fitted on generated rooms: it has seen rooms and nothing else.",
  normals: "Surface normals by a linear map of the features, fitted on generated rooms. Red is right, green is up, blue is towards you.",
};
let state = null; // {models, photos, heads}
const HEAD_HINT = "What the fitted head of a run makes of the photos, at the size and by the layers of its own protocol.";
let settings = { mode: "colors", opacity: 75, side: 448, layers: {}, query: null, first: null, second: null, number: 40, names: null, template: null, threshold: -100 };
let turn = 0; // of `draw`: only the latest may touch the page
let pause = 0; // the timer of `drawLater`
const legend = new Map(); // class name -> its number, of all encoders
const shown = new Map(); // "model photo" -> {grid, values, label}: what is under the pointer
const unpacked = new WeakMap();
const NARROW = 480; // pixels of an encoder's part below which two photos stand one above the other
const PAUSE = 120; // milliseconds for which a slider rests before the server is asked

function tell(error) {
  byId("error").hidden = !error;
  byId("error").textContent = error ? error.message : "";
}

// Runs what a control asks for; an error becomes a sentence on the page.
async function attempt(action) {
  tell(null);
  try { await action(); } catch (error) {
    if (error.name === "AbortError") return; // another drawing is on its way
    byId("status").textContent = "";
    tell(error);
  }
}

// The page's text, attributes and children in one call.
function element(tag, attributes = {}, ...children) {
  const made = tag === "svg" || tag === "rect" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const swatch = (colors, width = 14) => element("svg", { width, height: 14, "aria-hidden": "true", "shape-rendering": "crispEdges", preserveAspectRatio: "none", viewBox: `0 0 ${colors.length} 1` },
  ...colors.map((color, place) => element("rect", { x: place, y: 0, width: 1.02, height: 1, fill: `rgb(${color.map(Math.round).join(",")})` })));

// --- what is asked -------------------------------------------------------------------------------------------------------------------

const numbers = () => state.photos.map(photo => photo.id);
const question = model => ({ model: model.name, layer: settings.layers[model.name], side: settings.side, photos: numbers() });

async function featuresOf(model) {
  const answer = await ask("features", question(model));
  if (!unpacked.has(answer)) unpacked.set(answer, answer.photos.map(unpack));
  return unpacked.get(answer);
}

const classesOf = model => ask("classes", {
  model: model.name, side: settings.side, photos: numbers(), names: settings.names.split(",").map(name => name.trim()).filter(Boolean), template: settings.template,
});
const surfacesOf = model => ask("surfaces", { ...question(model), kind: settings.mode });
const headAsked = (head) => ({ head, photos: numbers() });
const pairOf = (model, first, second) => ({ ...question(model), photos: [first, second] });

// Asked for in the order of the photos' numbers, turned where the page has it the other way.
async function matchesOf(model) {
  const { first, second } = settings;
  if (first < second) return ask("matches", pairOf(model, first, second));
  const answer = await ask("matches", pairOf(model, second, first));
  return { ...answer, grids: [...answer.grids].reverse(), matches: answer.matches.map(([one, other, cosine]) => [other, one, cosine]) };
}

// --- what is drawn -------------------------------------------------------------------------------------------------------------------

// {maps: a canvas or null for each photo, smooth, grids, values, label, low, high} of the photos by one encoder.
async function mapsOf(model) {
  const mode = settings.mode;
  if (mode === "photo" || (mode === "similarity" && !settings.query)) return { maps: state.photos.map(() => null) };
  if (mode === "classes") return classMaps(await classesOf(model));
  if (mode === "depth" || mode === "normals") return roomMaps(await surfacesOf(model));
  if (isHead(mode)) return headMaps(model);
  const features = await featuresOf(model);
  if (mode === "colors") return { grids: features, smooth: false, maps: features.map(({ rows, columns, colors }) => cells(rows, columns, cell => colors.subarray(3 * cell, 3 * cell + 3))) };
  return similarityMaps(features);
}

function similarityMaps(features) {
  const place = state.photos.findIndex(photo => photo.id === settings.query.photo);
  if (place < 0) return { maps: state.photos.map(() => null) };
  const values = features.map(other => cosines(features[place], patchAt(features[place], settings.query), other)), [low, high] = ends(values);
  const maps = features.map(({ rows, columns }, photo) => cells(rows, columns, cell => heat((values[photo][cell] - low) / (high - low || 1))));
  return { maps, smooth: false, grids: features, values, low, high, query: place, label: value => `cosine ${value.toFixed(3)}` };
}

function classMaps(answer) {
  const lowest = settings.threshold / 100, photos = answer.photos.map(packed => ({ ...packed, labels: bytes(packed.labels), cosines: new Int8Array(bytes(packed.cosines).buffer) }));
  const maps = photos.map(({ rows, columns, labels, cosines: own }) => cells(rows, columns, cell => own[cell] / 127 < lowest ? [0, 0, 0, 0] : classColor(labels[cell])));
  const label = (cell, photo) => `${answer.names[photos[photo].labels[cell]]}, cosine ${(photos[photo].cosines[cell] / 127).toFixed(2)}`;
  const legend = answer.names.map((name, number) => ({ name, number }));
  return { maps, smooth: false, grids: photos, values: photos.map(photo => Uint32Array.from(photo.labels, (_, cell) => cell)), label, legend };
}

// By the map that is fitted on generated rooms.
function roomMaps({ photos, depth_error: error }) {
  if (settings.mode === "normals") return normalMaps(photos);
  return { ...depthMaps(photos), note: `Mean error of depth in rooms of 224 px that were held out: ${error.toFixed(2)}\u00a0m.` };
}

// By a head that a run has fitted for this encoder.
async function headMaps(model) {
  const place = state.heads.findIndex(head => head.model === model.name && head.view === nameOf(settings.mode));
  if (place < 0) return { maps: state.photos.map(() => null), note: "No head of this encoder was given for this task." };
  const { kind, classes, said } = state.heads[place], { photos } = await ask("head", headAsked(place));
  if (kind === "segmentation") return { ...labelMaps(photos, classes), note: said };
  return kind === "depth" ? { ...depthMaps(photos), note: said } : { ...normalMaps(photos), note: `${said} Red is right, green is up, blue is towards you.` };
}

// Classes without cosines. The legend has what covers a thousandth of a photo, most pixels first.
function labelMaps(photos, classes) {
  const grids = photos.map(packed => ({ ...packed, labels: bytes(packed.labels) })), covered = new Map();
  for (const { labels } of grids) {
    const own = new Float64Array(256);
    for (const label of labels) own[label] += 1 / labels.length;
    own.forEach((share, number) => { if (share >= 0.001) covered.set(number, (covered.get(number) ?? 0) + share); });
  }
  const legend = [...covered].sort((one, other) => other[1] - one[1]).map(([number]) => ({ name: classes[number], number }));
  const maps = grids.map(({ rows, columns, labels }) => cells(rows, columns, cell => classColor(labels[cell])));
  return { maps, smooth: false, grids, values: grids.map(({ labels }) => labels), label: number => classes[number], legend };
}

const normalMaps = photos => ({ grids: photos, smooth: true, maps: photos.map(({ rows, columns, colors }) => {
  const own = bytes(colors);
  return cells(rows, columns, cell => own.subarray(3 * cell, 3 * cell + 3));
}) });

function depthMaps(photos) {
  const values = photos.map(({ values: packed, low, high }) => Float32Array.from(bytes(packed), value => low + value * (high - low) / 255)), [low, high] = ends(values);
  const maps = photos.map(({ rows, columns }, photo) => cells(rows, columns, cell => heat(1 - (values[photo][cell] - low) / (high - low || 1))));
  return { maps, smooth: true, grids: photos, values, low, high, turned: true, label: value => `${value.toFixed(2)} m` };
}

const patchAt = ({ rows, columns }, { x, y }) => Math.min(Math.floor(y * rows), rows - 1) * columns + Math.min(Math.floor(x * columns), columns - 1);

async function draw() {
  const own = ++turn;
  outputs();
  byId("hint").textContent = state.photos.length ? HINTS[settings.mode] ?? HEAD_HINT : "There are no photos. Drop some.";
  byId("status").textContent = "Computing…";
  legend.clear();
  for (const model of state.models) {
    const section = byId(`encoder-${state.models.indexOf(model)}`);
    if (settings.mode === "matches") await drawPair(section, model, own);
    else if (state.photos.length) await drawPhotos(section, model, own);
    if (own !== turn) return;
  }
  byId("legend").replaceChildren(...[...legend].map(([name, number]) => element("li", {}, swatch([classColor(number)]), ` ${name}`)));
  byId("status").textContent = "";
}

// Draws when the sliders have rested: who moves one passes many places, and wants the last.
function drawLater() {
  clearTimeout(pause);
  byId("status").textContent = "Computing…";
  pause = setTimeout(() => attempt(draw), PAUSE);
}

async function drawPhotos(section, model, own) {
  const found = await mapsOf(model);
  if (own !== turn) return;
  section.querySelectorAll(".photo canvas").forEach((canvas, photo) => {
    drawPhoto(canvas, images.get(state.photos[photo].id), found.maps[photo], settings.opacity / 100, found.smooth);
    if (found.query === photo) markPatch(canvas, found.grids[photo], patchAt(found.grids[photo], settings.query));
    shown.set(`${model.name} ${state.photos[photo].id}`, found.values && { grid: found.grids[photo], values: found.values[photo], label: value => found.label(value, photo) });
  });
  for (const { name, number } of found.legend ?? []) legend.set(name, number);
  section.querySelector(".note").textContent = found.note ?? "";
  scale(section, found);
}

async function drawPair(section, model, own) {
  if (settings.first === settings.second) throw new Error("Matches need two different photos. Choose another one, or drop one more.");
  const answer = await matchesOf(model);
  if (own !== turn) return;
  drawMatches(section.querySelector(".pair canvas"), [settings.first, settings.second].map(id => images.get(id)), answer.grids, answer.matches.slice(0, settings.number), section.clientWidth < NARROW);
  section.querySelector(".pair figcaption").textContent = `Patches that are each other's nearest: ${answer.total}, drawn: ${Math.min(settings.number, answer.matches.length)}.`;
}

function scale(section, { low, high, label, turned }) {
  const bar = section.querySelector(".scale");
  bar.hidden = low === undefined;
  if (bar.hidden) return;
  const colors = Array.from({ length: 32 }, (_, place) => heat(turned ? 1 - place / 31 : place / 31));
  bar.replaceChildren(label(low), swatch(colors, 100), label(high));
}

// --- the page's parts ----------------------------------------------------------------------------------------------------------------

// The heads' choices stand behind the others, under the names of their tasks.
const views = () => [...new Set(state.heads.map(head => head.view))];
const isHead = mode => mode.startsWith("head-");
const nameOf = mode => isHead(mode) ? views()[Number(mode.slice(5))] : MODES[mode];

function build() {
  choices("modes", Object.keys(MODES));
  choices("views", views().map((_, place) => `head-${place}`));
  byId("heads").hidden = !byId("views").children.length;
  byId("model-names").textContent = state.models.map(model => model.name).join(" and ");
  byId("encoders").replaceChildren(...state.models.map((model, number) => section(model, number)));
  for (const [id, fallback] of [["first", 0], ["second", 1]]) {
    const ids = numbers();
    if (!ids.includes(settings[id])) settings[id] = ids[Math.min(fallback, ids.length - 1)] ?? null;
    byId(id).replaceChildren(...state.photos.map(photo => element("option", { value: photo.id }, photo.name)));
    byId(id).value = settings[id];
  }
  show();
}

function choices(id, modes) {
  const shown = modes.filter(mode => !saved || isHeld(mode));
  byId(id).replaceChildren(...shown.map(mode => element("label", {}, element("input", { type: "radio", name: "mode", value: mode }), nameOf(mode))));
}

function section(model, number) {
  const slider = element("input", { type: "range", id: `layer-${number}`, min: 0, max: model.layers - 1, value: settings.layers[model.name] });
  slider.addEventListener("input", () => { settings.layers[model.name] = Number(slider.value); outputs(); drawLater(); });
  const layer = element("div", { class: "live layer" }, element("label", { for: slider.id }, "Layer ", element("output", { id: `layer-${number}-value` })), slider);
  const pair = element("figure", { class: "pair" }, element("canvas", { role: "img", "aria-label": `Matches by ${model.name}` }), element("figcaption"));
  return element("section", { class: "encoder", id: `encoder-${number}`, "aria-label": model.name },
    element("h2", {}, model.name), layer, element("p", { class: "scale", hidden: "" }), element("p", { class: "note" }), element("div", { class: "photos" }, ...state.photos.map(photo => figure(model, photo))), pair);
}

function figure(model, photo) {
  const button = element("button", { type: "button", class: "photo", "aria-label": `${photo.name}: choose a patch` }, element("canvas"));
  const remove = element("button", { type: "button", class: "live", "aria-label": `Remove ${photo.name}` }, "Remove");
  button.addEventListener("click", event => choose(photo, event.detail ? within(button, event) : { x: 0.5, y: 0.5 }));
  button.addEventListener("keydown", event => step(model, photo, event));
  button.addEventListener("pointermove", event => point(model, photo, within(button, event)));
  button.addEventListener("pointerleave", () => { byId("status").textContent = ""; });
  remove.addEventListener("click", () => attempt(async () => { await command("remove", { photo: photo.id }); await load(); }));
  return element("figure", {}, button, element("figcaption", {}, element("span", {}, photo.name), remove));
}

function within(button, event) {
  const box = button.getBoundingClientRect(), share = value => Math.min(Math.max(value, 0), 0.9999);
  return { x: share((event.clientX - box.left) / box.width), y: share((event.clientY - box.top) / box.height) };
}

function choose(photo, { x, y }) {
  performance.mark("click");
  settings.query = { photo: photo.id, x, y };
  settings.mode = "similarity";
  show();
  return attempt(async () => { await draw(); performance.measure("click to map", "click"); });
}

function step(model, photo, event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], query = settings.query;
  const under = shown.get(`${model.name} ${photo.id}`);
  if (!way || !query || query.photo !== photo.id || !under) return;
  event.preventDefault();
  const { rows, columns } = under.grid, share = value => Math.min(Math.max(value, 0), 0.9999);
  choose(photo, { x: share(query.x + way[0] / columns), y: share(query.y + way[1] / rows) });
}

function point(model, photo, place) {
  const under = shown.get(`${model.name} ${photo.id}`);
  byId("status").textContent = under ? under.label(under.values[patchAt(under.grid, place)]) : "";
}

// The controls as the settings say, and only those that do something now.
function show() {
  document.querySelectorAll("[data-mode]").forEach(part => { part.hidden = part.dataset.mode !== settings.mode; });
  document.querySelectorAll(".photos").forEach(part => { part.hidden = settings.mode === "matches"; });
  document.querySelectorAll(".pair").forEach(part => { part.hidden = settings.mode !== "matches"; });
  document.querySelectorAll(".scale").forEach(part => { part.hidden = true; });
  document.querySelectorAll(".layer").forEach(part => { part.hidden = ["photo", "classes"].includes(settings.mode) || isHead(settings.mode); });
  byId("over").hidden = ["photo", "matches"].includes(settings.mode);
  byId("resolution").hidden = settings.mode === "photo" || isHead(settings.mode);
  if (saved) document.querySelectorAll(".live").forEach(part => { part.hidden = true; });
  const chosen = document.querySelector(`input[name=mode][value="${settings.mode}"]`);
  if (chosen) chosen.checked = true;
  for (const id of ["opacity", "side", "number", "threshold", "names", "template"]) byId(id).value = settings[id];
  outputs();
}

function outputs() {
  for (const [id, text] of [["opacity", value => `${value} %`], ["side", String], ["number", String], ["threshold", value => (value / 100).toFixed(2)]])
    byId(`${id}-value`).textContent = text(byId(id).value);
  state.models.forEach((model, number) => { const slider = byId(`layer-${number}`); if (slider) byId(`layer-${number}-value`).textContent = `${Number(slider.value) + 1} of ${model.layers}`; });
}

async function load() {
  state = saved ? saved.answers["state {}"] : await command("state", {});
  for (const model of state.models) settings.layers[model.name] ??= model.layers - 1;
  await Promise.all(state.photos.map(loadImage));
  build();
  await draw();
}

// A file that is no photo leaves the others alone.
async function upload(files) {
  const faults = [];
  for (const file of files) {
    try {
      await post(`api/photos?name=${encodeURIComponent(file.name)}`, await readable(file), { "Content-Type": "application/octet-stream" });
    } catch (error) { faults.push(error.message); }
  }
  await load();
  if (faults.length) throw new Error(faults.join(" "));
}

// The server takes JPEG and PNG; what else the browser can show, as WebP and AVIF, becomes a PNG of the same pixels.
async function readable(file) {
  if (!file.type.startsWith("image/") || ["image/jpeg", "image/png"].includes(file.type)) return file;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file; // the server says what is wrong with it
  const canvas = element("canvas", { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise(resolve => canvas.toBlob(resolve, "image/png"));
}

function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function savePng() {
  const sections = state.models.map((model, number) => {
    const parts = byId(`encoder-${number}`).querySelectorAll(settings.mode === "matches" ? ".pair" : ".photos figure");
    return { name: model.name, canvases: [...parts].map(part => ({ canvas: part.querySelector("canvas"), caption: (part.querySelector("figcaption span") ?? part.querySelector("figcaption")).textContent })) };
  });
  sheet(sections, nameOf(settings.mode)).toBlob(blob => download(blob, "features.png"), "image/png");
}

// What a page without a server is to answer: all of the photos by these layers at this resolution, and other maps that were seen.
function questions() {
  const keys = ["state {}"], ids = numbers();
  for (const model of state.models) {
    keys.push(`features ${JSON.stringify(question(model))}`);
    for (const first of ids) for (const second of ids.filter(id => id > first)) keys.push(`matches ${JSON.stringify(pairOf(model, first, second))}`);
  }
  const seen = [...answers.keys()].filter(key => /^(classes|surfaces|head) /.test(key)).filter(key => {
    const asked = JSON.parse(key.slice(key.indexOf(" ")));
    return (asked.side ?? settings.side) === settings.side && String(asked.photos) === String(ids) && (asked.layer ?? settings.layers[asked.model]) === settings.layers[asked.model];
  });
  return [...keys, ...seen];
}

async function savePage() {
  const answer = await command("page", { questions: questions(), settings });
  download(new Blob([answer.page], { type: "text/html" }), "features.html");
}

// Whether a saved page holds the answers that a view needs; it always has features and matches.
function isHeld(mode) {
  const keys = [...answers.keys()];
  if (mode === "classes") return keys.some(key => key.startsWith("classes "));
  if (isHead(mode)) return state.heads.some((head, place) => head.view === nameOf(mode) && keys.includes(`head ${JSON.stringify(headAsked(place))}`));
  return !["depth", "normals"].includes(mode) || keys.some(key => key.startsWith("surfaces ") && JSON.parse(key.slice(9)).kind === mode);
}

function listen() {
  for (const id of ["modes", "views"]) byId(id).addEventListener("change", event => { settings.mode = event.target.value; show(); attempt(draw); });
  byId("controls").addEventListener("submit", event => event.preventDefault());
  for (const id of ["opacity", "threshold", "number"]) byId(id).addEventListener("input", () => { settings[id] = Number(byId(id).value); attempt(draw); });
  byId("side").addEventListener("input", () => { settings.side = Number(byId("side").value); outputs(); drawLater(); });
  for (const id of ["first", "second"]) byId(id).addEventListener("change", () => { settings[id] = Number(byId(id).value); attempt(draw); });
  const find = () => { settings.names = byId("names").value; settings.template = byId("template").value; attempt(draw); };
  byId("find").addEventListener("click", find);
  byId("template").addEventListener("keydown", event => { if (event.key === "Enter") find(); });
  byId("files").addEventListener("change", () => attempt(async () => { await upload(byId("files").files); byId("files").value = ""; }));
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]])
    document.addEventListener(kind, event => { event.preventDefault(); byId("drop").classList.toggle("over", over); });
  if (!saved) document.addEventListener("drop", event => attempt(() => upload(event.dataTransfer.files)));
  byId("save-png").addEventListener("click", () => attempt(savePng));
  byId("save-page").addEventListener("click", () => attempt(savePage));
}

settings.names = byId("names").value;
settings.template = byId("template").value;
if (saved) settings = saved.settings;
listen();
attempt(load);
