// Returns the texts on the screen whose contrast with what is behind them is below 4.5 to 1
// (WCAG 2.2, 1.4.3), each with its contrast.
() => {
  const parse = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return { parts: [red, green, blue], alpha };
  };
  const luminance = (parts) => {
    const [red, green, blue] = parts.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    const layers = [];
    for (let one = element; one !== null; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      layers.push(color);
      if (color.alpha === 1) break;
    }
    return layers.reverse().reduce(
      (below, { parts, alpha }) => below.map((part, at) => part * (1 - alpha) + parts[at] * alpha),
      [255, 255, 255],
    );
  };
  const isSeen = (element) =>
    element.checkVisibility({ visibilityProperty: true }) &&
    getComputedStyle(element).clipPath === "none" &&
    element.closest(".hidden-text") === null;
  const poor = [];
  const check = (element, text, pseudo) => {
    const one = luminance(parse(getComputedStyle(element, pseudo).color).parts);
    const other = luminance(ground(element));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) poor.push(`${text}: ${contrast.toFixed(2)}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (texts.nextNode()) {
    const { parentElement, data } = texts.currentNode;
    if (!data.trim() || !isSeen(parentElement)) continue;
    count += 1;
    check(parentElement, data.trim());
  }
  for (const field of document.querySelectorAll("input, textarea")) {
    if (isSeen(field) && field.placeholder) check(field, field.placeholder, "::placeholder");
  }
  return { count, poor };
}
