// The service's own figures, read from Prometheus' text format at /metrics.
import { request } from "./api.js";

const LINE = /^(\w+)(?:\{([^}]*)\})? ([^ ]+)$/;

// [{name, labels, value}] of every line.
function samples(text) {
  return text.split("\n").flatMap((line) => {
    const found = LINE.exec(line);
    if (!found) return [];
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    return [{ name: found[1], labels, value: Number(found[3]) }];
  });
}

// The value below which a share of a histogram's observations lies, as Prometheus' histogram_quantile reckons it.
export function quantile(share, buckets) {
  const sorted = [...buckets].sort((a, b) => a.upTo - b.upTo);
  const total = sorted.at(-1)?.count ?? 0;
  if (total === 0) return null;
  let below = { upTo: 0, count: 0 };
  for (const bucket of sorted) {
    if (bucket.count >= share * total) {
      if (bucket.upTo === Infinity) return below.upTo;
      return below.upTo + ((bucket.upTo - below.upTo) * (share * total - below.count)) / (bucket.count - below.count || 1);
    }
    below = bucket;
  }
  return below.upTo;
}

function buckets(all, name, label) {
  const groups = new Map();
  for (const each of all.filter((sample) => sample.name === `lorebase_${name}_bucket`)) {
    const upTo = each.labels.le === "+Inf" ? Infinity : Number(each.labels.le);
    const group = groups.get(each.labels[label]) ?? new Map();
    group.set(upTo, (group.get(upTo) ?? 0) + each.value);
    groups.set(each.labels[label], group);
  }
  return groups;
}

// What was observed: {at, value(name, labels), seconds(name, label, since)}. value: a single figure; seconds: medians and
// 95th percentiles by a label, of all that was observed, or only since an earlier reading.
export async function readMetrics() {
  const all = samples(await (await request("GET", "/metrics")).text());
  const value = (name, labels = {}) =>
    all.filter((each) => each.name === `lorebase_${name}` && Object.entries(labels).every(([key, wanted]) => each.labels[key] === wanted))
      .reduce((sum, each) => sum + each.value, 0);
  const counted = (name, label) => buckets(all, name, label);
  const seconds = (name, label, since) => {
    const before = since?.counted(name, label);
    return [...counted(name, label)].map(([group, counts]) => {
      const found = [...counts].map(([upTo, count]) => ({ upTo, count: count - (before?.get(group)?.get(upTo) ?? 0) }));
      return { group, count: Math.max(...found.map(({ count }) => count)), p50: quantile(0.5, found), p95: quantile(0.95, found) };
    });
  };
  return { at: Date.now(), value, counted, seconds };
}
