// Arrays of features and maps. A patch's feature is int8; its scale is not known and not needed, since a cosine does not depend on it.

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let place = 0; place < raw.length; place++) found[place] = raw.charCodeAt(place);
  return found;
}

// Features of a photo as the server packs them, with the length of each patch's.
function unpack(packed) {
  const { rows, columns, dim } = packed;
  const values = new Int8Array(bytes(packed.features).buffer), lengths = new Float32Array(rows * columns);
  for (let patch = 0; patch < lengths.length; patch++) {
    let sum = 0;
    for (let place = patch * dim; place < (patch + 1) * dim; place++) sum += values[place] * values[place];
    lengths[patch] = Math.sqrt(sum) || 1;
  }
  return { rows, columns, dim, values, lengths, colors: bytes(packed.colors) };
}

// Cosines of one patch of `from` with all patches of `to`.
function cosines(from, patch, to) {
  const dim = to.dim, query = Float32Array.from(from.values.subarray(patch * dim, (patch + 1) * dim), value => value / from.lengths[patch]);
  const found = new Float32Array(to.rows * to.columns);
  for (let other = 0, place = 0; other < found.length; other++) {
    let sum = 0;
    for (let axis = 0; axis < dim; axis++) sum += query[axis] * to.values[place++];
    found[other] = sum / to.lengths[other];
  }
  return found;
}

// The ends of what several arrays hold.
function ends(arrays) {
  let low = Infinity, high = -Infinity;
  for (const values of arrays) for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return [low, high];
}

// Matplotlib's inferno at nine places; between them colors are mixed.
const HEAT = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]];

function heat(share) {
  const place = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1), low = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[low].map((value, channel) => value + (place - low) * (HEAT[low + 1][channel] - value));
}

// Colors of classes: hues by the golden angle, two lightnesses in turn.
function classColor(number) {
  const hue = (number * 137.508) % 360, light = number % 2 ? 0.68 : 0.5, wide = 0.75 * Math.min(light, 1 - light);
  return [0, 8, 4].map(shift => {
    const turn = (shift + hue / 30) % 12;
    return Math.round(255 * (light - wide * Math.max(-1, Math.min(turn - 3, 9 - turn, 1))));
  });
}
