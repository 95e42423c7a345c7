/* The strip above all metrics: how much is recorded, and whether workers keep up. */

import { h, fill } from "../dom.js";
import { href } from "../address.js";
import { number, plural, quantity, span, whole } from "../format.js";
import { Chart } from "../chart/chart.js";
import { color } from "../chart/colors.js";
import { stats } from "../questions.js";

export function pulse(app) {
  const now = h("b"),
    host = h("div"),
    figures = h("dl");
  let latest = null;
  const chart = new Chart(host, { label: "Samples per second, all metrics" });
  const figure = (name, value, extra, kind = "") =>
    h(
      "div",
      {},
      h("dt", {}, name),
      h("dd", { class: kind }, value, extra && h("small", {}, extra)),
    );

  async function read() {
    const storage = await stats();
    const bytes = Object.values(storage.bytes).reduce((sum, each) => sum + each, 0);
    const { never_sealed: unsealed, late } = storage.metrics_dropped;
    const lost = unsealed + late;
    const lag = storage.worker_lag_seconds;
    fill(
      figures,
      figure("Metrics", whole(storage.names), `${number(storage.series)} series`),
      figure("Samples", number(storage.total_metrics), quantity(bytes, "bytes")),
      figure("Writers", whole(storage.writers), plural(storage.workers, "worker")),
      figure("Worker lag", span(lag), "oldest unsealed", lag > 60 ? "warn" : ""),
      figure(
        "Store",
        h("a", { href: href("store") }, lost ? `${number(lost)} lost` : "No losses"),
        "details",
        lost ? "bad" : "good",
      ),
    );
  }

  return {
    element: h(
      "section.pulse",
      { "aria-label": "All metrics together" },
      h("div.total", {}, h("span.soft", {}, "Samples per second"), now),
      host,
      figures,
    ),
    read: () => read().catch(() => {}),
    show({ times, samples, interval }, window) {
      if (!samples.length) return;
      latest = samples.at(-1);
      now.textContent ||= number(latest);
      chart.show({
        ...window,
        times,
        step: interval,
        zone: app.zone,
        label: "Samples per second",
        plain: true,
        series: [
          {
            label: "samples/s",
            color: color("accent"),
            values: Float64Array.from(samples, (value) => value ?? NaN),
          },
        ],
      });
    },
    /** Show the rate of the last seconds; null: of the last complete interval. */
    tell(total) {
      if ((total ?? latest) !== null) now.textContent = number(total ?? latest);
    },
  };
}
