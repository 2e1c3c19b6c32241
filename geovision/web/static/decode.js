// Conversion of the graph outputs into a prediction with labels, as in the ONNX runtime of geovision.

export function decode(outputs, { target }) {
  const probabilities = [...outputs.probabilities.data];
  const order = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const confidence = probabilities[order[0]];
  const score = outputs.outlier_score?.data[0] ?? null;
  return {
    label: target.classes[order[0]],
    confidence,
    word: target.words.find(({ from }) => confidence >= from),
    probabilities: Object.fromEntries(order.map((index) => [target.classes[index], probabilities[index]])),
    flags: score !== null && score > target.outlier.threshold ? [target.outlier.flag] : [],
    outlier_score: score,
    class_activation_map: outputs.class_activation_map ? rows(outputs.class_activation_map) : null,
  };
}

function rows({ data, dims }) {
  const [height, width] = dims.slice(-2);
  return Array.from({ length: height }, (_, row) => [...data.subarray(row * width, (row + 1) * width)]);
}
