// Photos, maps over them and lines between them, on canvases.

const images = new Map(); // photo's number -> its Image, loaded

async function loadImage(photo) {
  if (images.has(photo.id)) return;
  const image = new Image();
  image.src = photo.url;
  await image.decode();
  images.set(photo.id, image);
}

// A canvas of rows x columns whose cells have the colors that `color` gives: [r, g, b] or [r, g, b, a].
function cells(rows, columns, color) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), data = context.createImageData(columns, rows);
  for (let cell = 0; cell < rows * columns; cell++) {
    const [red, green, blue, alpha = 255] = color(cell);
    data.data.set([red, green, blue, alpha], 4 * cell);
  }
  context.putImageData(data, 0, 0);
  return canvas;
}

// A photo with a map over it. smooth: whether cells run into each other.
function drawPhoto(canvas, image, map, opacity, smooth) {
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  if (!map) return;
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = smooth;
  context.drawImage(map, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
}

// The frame of a patch.
function markPatch(canvas, grid, patch) {
  const context = canvas.getContext("2d"), width = canvas.width / grid.columns, height = canvas.height / grid.rows;
  const box = [(patch % grid.columns) * width, Math.floor(patch / grid.columns) * height, width, height];
  for (const [color, line] of [["#000", 5], ["#fff", 2.5]]) {
    context.strokeStyle = color;
    context.lineWidth = line;
    context.strokeRect(...box);
  }
}

// Two photos beside each other, or one above the other, and a line for each [row of the first, row of the second, cosine].
function drawMatches(canvas, pair, grids, matches, stacked) {
  const side = 480, gap = 12;
  const sizes = pair.map(({ width, height }) => stacked ? [side, Math.round(side * height / width)] : [Math.round(side * width / height), side]);
  const lefts = [0, stacked ? 0 : sizes[0][0] + gap], tops = [0, stacked ? sizes[0][1] + gap : 0];
  canvas.width = lefts[1] + sizes[1][0];
  canvas.height = tops[1] + sizes[1][1];
  const context = canvas.getContext("2d");
  pair.forEach((image, place) => context.drawImage(image, lefts[place], tops[place], ...sizes[place]));
  const place = (row, photo) => [
    lefts[photo] + ((row % grids[photo].columns) + 0.5) * sizes[photo][0] / grids[photo].columns,
    tops[photo] + (Math.floor(row / grids[photo].columns) + 0.5) * sizes[photo][1] / grids[photo].rows,
  ];
  matches.forEach(([first, second], number) => {
    const start = place(first, 0), end = place(second, 1);
    context.strokeStyle = context.fillStyle = `rgb(${classColor(number).join(",")})`;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(...start);
    context.lineTo(...end);
    context.stroke();
    for (const [x, y] of [start, end]) { context.beginPath(); context.arc(x, y, 4, 0, 7); context.fill(); }
  });
}

// All canvases of the page as one PNG file, an encoder below the other.
function sheet(sections, title) {
  const gap = 12, line = 28, width = 1400, columns = 3, tile = (width - gap) / columns - gap, places = [];
  let top = line + gap;
  for (const { name, canvases } of sections) {
    places.push({ text: name, left: gap, top });
    top += line;
    const across = canvases.length === 1 ? 1 : columns, wide = across === 1 ? Math.min(width - 2 * gap, 1000) : tile;
    for (let first = 0; first < canvases.length; first += across) {
      const row = canvases.slice(first, first + across), heights = row.map(({ canvas }) => wide * canvas.height / canvas.width);
      row.forEach(({ canvas, caption }, column) => places.push({ canvas, text: caption, left: gap + column * (wide + gap), top, wide, high: heights[column] }));
      top += Math.max(...heights) + line;
    }
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = top + gap;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#1d1d1f";
  context.font = "18px system-ui, sans-serif";
  context.fillText(title, gap, line);
  for (const place of places) {
    if (place.canvas) context.drawImage(place.canvas, place.left, place.top, place.wide, place.high);
    context.fillText(place.text, place.left, place.top + (place.high || 0) + 19);
  }
  return canvas;
}
