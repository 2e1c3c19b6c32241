// The graph's outputs to an answer in words, as geovision's runtime does it.

export function decode(outputs, { target }) {
  const shares = [...outputs.probabilities.data];
  const order = shares.map((_, index) => index).sort((a, b) => shares[b] - shares[a] || a - b);
  const confidence = shares[order[0]];
  const score = outputs.outlier_score?.data[0] ?? null;
  return {
    label: target.classes[order[0]],
    confidence,
    word: target.words.find(({ from }) => confidence >= from),
    probabilities: Object.fromEntries(order.map((index) => [target.classes[index], shares[index]])),
    flags: score !== null && score > target.outlier.threshold ? [target.outlier.flag] : [],
    outlier_score: score,
    class_activation_map: outputs.class_activation_map ? rows(outputs.class_activation_map) : null,
  };
}

function rows({ data, dims }) {
  const [height, width] = dims.slice(-2);
  return Array.from({ length: height }, (_, row) => [...data.subarray(row * width, (row + 1) * width)]);
}
