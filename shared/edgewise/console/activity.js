// What was done and what it cost: sums, three small charts, models, budgets and batches of the key, read anew every
// ten seconds while the page is looked at.
const at = (id) => document.getElementById(id);
const SECONDS = { minute: 60, hour: 3600 };
const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const share = (value) => (value == null ? "–" : percent.format(value));
const time = (ms) =>
  ms == null ? "–" : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;

// Money in as many digits as say something: $12.34, $0.0042, $0.
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const little = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const usd = (text) => `$${Number(text) >= 1 ? cents.format(text) : little.format(text ?? 0)}`;

function make(name, text, properties = {}) {
  return Object.assign(document.createElement(name), text == null ? {} : { textContent: text }, properties);
}

export class Activity {
  constructor(base, headers, said) {
    Object.assign(this, { base, headers, said, timer: 0, root: false, turn: 0 });
    at("span").addEventListener("change", () => this.refresh());
    at("whose").addEventListener("change", () => this.refresh());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  // True: the key is known. False: it is not. Undefined: nobody could say.
  async begin() {
    this.said("Looking…");
    this.root = false;
    this.known = false;
    return this.refresh(true);
  }

  async refresh(first = false) {
    clearTimeout(this.timer);
    if (!first && !this.known) return undefined;
    const turn = ++this.turn;
    try {
      const [usage, batches] = await Promise.all([
        this.read(`/usage?${this.query()}`),
        this.read("/batches?limit=5", true),
      ]);
      const root = usage.key_id === "root";
      const all = root && at("whose").value === "all" ? await this.read(`/admin/stats?${this.query()}`) : usage;
      if (turn !== this.turn) return true;
      this.known = true;
      at("whose-label").hidden = !root;
      this.show(all, usage, batches);
      this.said(
        `${root ? "The root key" : `Key ${usage.key_id} of ${usage.tenant}`}, as of ${new Date().toLocaleTimeString()}.`,
      );
      return true;
    } catch (error) {
      if (turn !== this.turn) return undefined;
      if (error.status === 401 || error.status === 403) {
        this.known = false;
        at("activity").hidden = true;
        this.said(error.message, true);
        return false;
      }
      this.known = true;
      this.said(`${error.status ? error.message : "The gateway does not answer."} Trying again in ten seconds.`, true);
      return undefined;
    } finally {
      if (turn === this.turn && this.known && !document.hidden) this.timer = setTimeout(() => this.refresh(), 10_000);
    }
  }

  // What a route says; null for one that is not there, where `optional`.
  async read(path, optional = false) {
    const answer = await fetch(this.base + path, { headers: this.headers() });
    if (answer.ok) return answer.json();
    if (optional) return null;
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error?.message ?? `The gateway answered ${answer.status}.`), {
      status: answer.status,
    });
  }

  query() {
    const [span, times] = at("span").value.split(",");
    this.step = SECONDS[span] * times;
    const slots = span === "minute" ? 60 : times === "1" ? 24 : 30;
    // Whole slots, the one under way included, so that bars stand still while time goes on.
    this.until = Math.floor(Date.now() / 1000 / this.step) * this.step + this.step;
    this.since = this.until - slots * this.step;
    return new URLSearchParams({ span, since: this.since, until: this.until });
  }

  show(all, own, batches) {
    const { total } = all;
    at("activity").hidden = false;
    at("none").hidden = total.requests > 0;
    at("tiles").hidden = at("charts").hidden = total.requests === 0;
    at("models").parentElement.hidden = total.requests === 0;
    this.tiles(total);
    this.charts(all.series);
    this.models(all.by_model, total);
    this.budgets(own.budgets);
    this.batches(batches?.data ?? [], own.tenant);
  }

  tiles(total) {
    const { p50, p95, p99 } = total.latency_ms;
    const tiles = [
      ["Requests", whole.format(total.requests), `${whole.format(total.tokens_in + total.tokens_out)} tokens`],
      [
        "Cost",
        usd(total.cost_usd),
        total.cost_unknown
          ? `${whole.format(total.cost_unknown)} of unknown cost`
          : `${usd(total.usd_per_1k_tokens)} per 1k tokens`,
      ],
      ["Saved", usd(total.saved_usd), "by the cache"],
      ["Hit rate", share(total.hit_share), `${whole.format(total.hits)} of ${whole.format(total.hits + total.misses)}`],
      ["Time, P50", time(p50), `P95 ${time(p95)}, P99 ${time(p99)}`],
      ["First token, P50", time(total.first_ms.p50), `P95 ${time(total.first_ms.p95)}`],
      [
        "Errors",
        share(total.error_share),
        `${whole.format(total.errors)}, and ${whole.format(total.errors_client)} refused`,
      ],
    ];
    at("tiles").replaceChildren(
      ...tiles.map(([name, value, more]) => {
        const tile = make("div");
        const said = make("dd", value);
        if (more) said.append(make("small", more));
        tile.append(make("dt", name), said);
        return tile;
      }),
    );
  }

  charts(series) {
    const slots = Array.from({ length: (this.until - this.since) / this.step }, () => []);
    for (const cell of series) slots[Math.floor((cell.at - this.since) / this.step)]?.push(cell);
    const sum = (cells, name) => cells.reduce((so, cell) => so + Number(cell[name]), 0);
    const most = (cells) => Math.max(0, ...cells.map((cell) => cell.latency_ms.p95 ?? 0));
    at("charts").replaceChildren(
      this.chart(
        "Requests",
        slots,
        (n) => whole.format(n),
        {
          hit: (cells) => sum(cells, "hits"),
          made: (cells) =>
            Math.max(
              0,
              ["hits", "errors", "errors_client"].reduce(
                (left, name) => left - sum(cells, name),
                sum(cells, "requests"),
              ),
            ),
          refused: (cells) => sum(cells, "errors_client"),
          error: (cells) => sum(cells, "errors"),
        },
        { hit: "cached", made: "by a model", refused: "refused", error: "failed" },
      ),
      this.chart("Cost", slots, usd, { cost: (cells) => sum(cells, "cost_usd") }),
      this.chart("Time, P95", slots, time, { slow: most }),
    );
  }

  chart(title, slots, format, parts, legend = {}) {
    const heights = slots.map((cells) => Object.values(parts).map((part) => part(cells)));
    const sums = heights.map((values) => values.reduce((a, b) => a + b, 0));
    const highest = Math.max(...sums);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const when = (n) =>
      new Date((this.since + n * this.step) * 1000).toLocaleString([], {
        dateStyle: this.step > 3600 ? "short" : undefined,
        timeStyle: this.step > 3600 ? undefined : "short",
      });
    svg.setAttribute("viewBox", `0 0 ${slots.length * 4} 100`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title}: at most ${format(highest)}, at ${when(sums.indexOf(highest))}`);
    heights.forEach((values, slot) => {
      let top = 100;
      const group = document.createElementNS(svg.namespaceURI, "g");
      values.forEach((value, part) => {
        if (!value) return;
        const height = Math.max(1, (value / highest) * 92);
        const bar = document.createElementNS(svg.namespaceURI, "rect");
        top -= height;
        for (const [name, of] of Object.entries({
          x: slot * 4 + 0.5,
          y: top,
          width: 3,
          height,
          class: Object.keys(parts)[part],
        }))
          bar.setAttribute(name, of);
        group.append(bar);
      });
      if (sums[slot]) {
        group.append(document.createElementNS(svg.namespaceURI, "title"));
        group.lastChild.textContent = `${when(slot)}: ${format(sums[slot])}`;
      }
      svg.append(group);
    });
    const caption = make("figcaption", `${title}, at most ${format(highest)}`);
    for (const [name, text] of Object.entries(legend)) caption.append(make("i", "", { className: name }), text);
    const figure = make("figure");
    figure.append(caption, svg);
    return figure;
  }

  models(models, total) {
    const rows = models.filter(({ model }) => model).sort((a, b) => b.requests - a.requests);
    at("models").tBodies[0].replaceChildren(
      ...rows.map((one) => {
        const row = make("tr");
        row.append(make("th", one.model, { scope: "row" }));
        const { p50, p95, p99 } = one.latency_ms;
        for (const text of [
          whole.format(one.requests),
          share(one.requests / total.requests),
          usd(one.cost_usd),
          usd(one.saved_usd),
          share(one.hit_share),
          share(one.error_share),
          time(p50),
          time(p95),
          time(p99),
        ])
          row.append(make("td", text));
        return row;
      }),
    );
  }

  list(id, title, items) {
    const list = make("ul");
    list.append(...items);
    at(id).replaceChildren(...(items.length ? [make("h3", title), list] : []));
  }

  budgets(budgets) {
    this.list(
      "budgets",
      "Budgets",
      budgets.map((one) => {
        const used = Number(one.used_usd);
        const cap = Number(one.usd);
        const name = `${one.scope === "tenant" ? "The tenant's" : "This key's"}, per ${one.per}${one.model ? `, ${one.model}` : ""}`;
        const item = make("li", name);
        const reset = one.resets_at
          ? `, anew ${new Date(one.resets_at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}`
          : "";
        item.append(
          make("span", `${usd(used)} of ${usd(cap)}${reset}`, { className: used >= cap ? "bad" : "" }),
          make("meter", `${usd(used)} of ${usd(cap)}`, {
            max: cap || 1,
            high: cap * 0.9,
            optimum: 0,
            value: cap ? used : 1,
            ariaLabel: name,
          }),
        );
        return item;
      }),
    );
  }

  batches(batches, tenant) {
    this.list(
      "batches",
      `Batches of ${tenant}`,
      batches.map((one) => {
        const { total, completed, failed } = one.request_counts;
        const item = make("li", `${one.id}, ${one.status.replace("_", " ")}`);
        const done = `${whole.format(completed)} of ${whole.format(total)}`;
        const more = `${failed ? `, ${whole.format(failed)} failed` : ""}, ${usd(one.edgewise?.cost_usd ?? 0)}`;
        item.append(
          make("span", done + more, { className: failed ? "bad" : "" }),
          make("progress", done, { max: total || 1, value: completed + failed, ariaLabel: one.id }),
        );
        return item;
      }),
    );
  }
}
