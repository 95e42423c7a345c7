/* What the overview knows of each metric: its name at once, then its figures.
 *
 * Figures are read in parts, by name. In a large store this takes a while, so visible ones are
 * read with every refresh, and all of them only occasionally.
 */

import { change } from "./format.js";
import { names, overview } from "./questions.js";

const FIRST = 100; // metrics of the first part
const PART = 400; // and of each following one
const LARGE = 600; // metrics of a store that is not read as a whole with every refresh
const PAUSE = 10; // times as long as reading all of it took
const BY_NAME = 30; // metrics of one request that names them
const FRESH = 8000; // ms for which figures are good enough

const UNREAD = { rate: null, last: null, p95: null, value: null, previous: null, trend: [] };

export class Board {
  /** *tell* is called when metrics or figures have arrived. */
  constructor(left, tell) {
    this.left = left;
    this.tell = tell;
    this.metrics = new Map(); // name -> metric; *at*: when its figures came, 0: not for this window
    this.samples = null; // {times, interval, samples} of all metrics together
    this.awaited = new Set();
    this.question = null;
  }

  /** Read changes of metrics with these *tags*; *inSight* returns the names of the visible ones. */
  async read(tags, window, inSight) {
    const key = JSON.stringify([tags, window.text || [window.since, window.until]]);
    if (key !== this.question?.key) this.begin(key);
    const { question } = this;
    question.asked = { since: window.since, until: window.until, step: window.step, tag: tags };
    if (!question.isReading && Date.now() >= question.due) await this.readAll(question);
    await this.readSome(inSight(), FRESH);
  }

  begin(key) {
    this.question?.leave.abort();
    const leave = new AbortController();
    const signal = AbortSignal.any([leave.signal, this.left]);
    this.question = { key, leave, signal, isReading: false, isNew: true, due: 0, read: 0 };
    this.awaited.clear();
    for (const [name, metric] of this.metrics) this.metrics.set(name, { ...metric, at: 0 });
  }

  /** Read the first metrics; the others follow after this has returned. */
  async readAll(question) {
    const { asked, signal } = question;
    const began = Date.now();
    question.isReading = true;
    question.read = 0;
    try {
      // Later, new metrics of a small store arrive with the figures.
      const areNamesKnown = !question.isNew && this.metrics.size <= LARGE;
      const bare =
        asked.tag.length || areNamesKnown
          ? null
          : names(signal).then((all) => this.addBare(all, signal));
      const [answer] = await Promise.all([overview({ ...asked, limit: FIRST }, signal), bare]);
      if (question.isNew && !bare) this.metrics = new Map();
      question.isNew = false;
      const rest = this.readRest(question, answer, began);
      if (!answer.next) await rest;
      // An error from here on shows at the next refresh, which starts over.
      else rest.catch(() => {});
    } catch (error) {
      question.isReading = false;
      throw error;
    }
  }

  async readRest(question, first, began) {
    const { asked, signal } = question;
    const found = new Set();
    const samples = first.samples.map(() => 0);
    try {
      for (let answer = first; ; ) {
        this.add(answer.metrics, signal);
        for (const { name } of answer.metrics) found.add(name);
        answer.samples.forEach((value, at) => (samples[at] += value ?? 0));
        question.read += answer.metrics.length;
        if (!answer.next) break;
        this.tell();
        answer = await overview({ ...asked, after: answer.next, limit: PART }, signal);
      }
    } finally {
      question.isReading = false;
    }
    for (const name of this.metrics.keys()) if (!found.has(name)) this.metrics.delete(name);
    const took = Date.now() - began;
    question.due = found.size > LARGE ? Date.now() + PAUSE * took : 0;
    this.samples = { times: first.times, interval: first.interval, samples };
    this.tell();
  }

  /** Read those of *shown* whose figures are older than *age* ms. */
  async readSome(shown, age = Infinity) {
    const { asked, signal } = this.question;
    const isOld = (at) => !at || Date.now() - at > age;
    const wanted = shown.filter(
      (name) => isOld(this.metrics.get(name)?.at) && !this.awaited.has(name),
    );
    const parts = [];
    while (wanted.length) parts.push(wanted.splice(0, BY_NAME));
    await Promise.all(
      parts.map(async (name) => {
        for (const each of name) this.awaited.add(each);
        try {
          const { metrics } = await overview({ ...asked, name }, signal);
          this.add(metrics, signal);
        } finally {
          if (!signal.aborted) for (const each of name) this.awaited.delete(each);
        }
      }),
    );
    if (parts.length) this.tell();
  }

  addBare(all, signal) {
    signal.throwIfAborted();
    const known = this.metrics;
    this.metrics = new Map(
      all.map((each) => {
        const before = known.get(each.name) ?? { ...UNREAD, at: 0 };
        return [each.name, { ...before, ...each, seen: each.last_seen }];
      }),
    );
    this.tell();
  }

  add(metrics, signal) {
    signal.throwIfAborted();
    const at = Date.now();
    for (const each of metrics) {
      const part = change(each.value, each.previous);
      this.metrics.set(each.name, { ...each, at, change: part, seen: each.last_seen });
    }
  }

  /** Return whether all names for the current question are known. */
  get isKnown() {
    return this.question !== null && !this.question.isNew;
  }

  /** Return the numbers of metrics read so far and in total, while reading all of a large store. */
  progress() {
    const { isReading = false, read = 0 } = this.question ?? {};
    return isReading && this.metrics.size > LARGE ? [read, this.metrics.size] : null;
  }
}
