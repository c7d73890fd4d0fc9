// Sends files to the server piece by piece. The queue lives in the window, not in the component: uploads go on while the user looks at
// another page, and a component that is mounted again shows them as they are.

const PIECE_BYTES = 4 * 2 ** 20;
const MAX_PAUSE_MS = 15000;

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

class Queue {
  constructor() {
    this.items = [];
    this.views = new Set();
    this.added = [];
    this.running = false;
    window.addEventListener("beforeunload", (event) => { if (this.active.length) event.preventDefault(); });
  }

  get active() { return this.items.filter((item) => ["waiting", "sending", "checking"].includes(item.state)); }

  configure({ prefix, token, max_bytes: maxBytes }) { Object.assign(this, { prefix, token, maxBytes }); }

  add(files) {
    for (const file of files) {
      const known = this.items.find((item) => item.file.name === file.name && item.file.size === file.size && this.active.includes(item));
      if (!known) this.items.push({ file, state: "waiting", sent: 0, message: "", stop: new AbortController() });
    }
    this.changed();
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    for (let item = this.next(); item; item = this.next()) await this.send(item);
    this.running = false;
  }

  next() { return this.items.find((item) => item.state === "waiting"); }

  async send(item) {
    try {
      item.state = "sending";
      this.say(item, "is being sent");
      if (item.file.size > this.maxBytes) throw new Refused(413, `The file has ${size(item.file.size)}, the limit is ${size(this.maxBytes)}.`);
      item.key = await keyOf(item.file);
      const started = await this.persist(item, () => this.announce(item));
      item.id = started.id;
      item.sent = started.offset;
      while (item.sent < item.file.size) {
        item.sent = (await this.persist(item, () => this.piece(item))).offset;
        this.changed();
      }
      item.state = "checking";
      this.say(item, "has arrived and is being checked");
      const lecture = await this.persist(item, () => this.call(item, "POST", `/${item.id}/complete`));
      item.state = "done";
      this.added.push(lecture.lecture_id);
      this.say(item, lecture.new ? "has been added" : "is here already; nothing was added twice");
    } catch (error) {
      if (item.stop.signal.aborted) return;
      item.state = "failed";
      this.say(item, error instanceof Refused ? error.message : `could not be sent: ${error.message}`);
    }
  }

  announce(item) {
    const note = { name: item.file.name, size_bytes: item.file.size, key: item.key };
    return this.call(item, "POST", "", JSON.stringify(note));
  }

  async piece(item) {
    const end = Math.min(item.sent + PIECE_BYTES, item.file.size);
    try {
      return await this.call(item, "PUT", `/${item.id}?offset=${item.sent}`, item.file.slice(item.sent, end));
    } catch (error) {
      if (error.status !== 409) throw error;
      return this.call(item, "GET", `/${item.id}`); // a piece arrived although its answer was lost: go on where the server is
    }
  }

  // Tries again while the line is down or the server restarts; a server that answers with a refusal is believed.
  async persist(item, attempt) {
    for (let pause = 500; ; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      try {
        return await attempt();
      } catch (error) {
        const restarted = error.status === 403; // this page has an old token until it is connected again
        if (item.stop.signal.aborted || (error instanceof Refused && !restarted)) throw error;
        this.say(item, "waits: the connection is interrupted");
        await new Promise((resume) => setTimeout(resume, pause));
      }
    }
  }

  async call(item, method, path, body) {
    const headers = { "x-askaloud-token": this.token };
    const answer = await fetch(this.prefix + path, { method, headers, body, signal: item.stop.signal, credentials: "same-origin" });
    if (answer.ok) return answer.json();
    const { message } = await answer.json().catch(() => ({ message: `the server answered ${answer.status}` }));
    throw new Refused(answer.status, message);
  }

  async cancel(item) {
    const { id } = item;
    item.stop.abort();
    item.stop = new AbortController();
    item.state = "cancelled";
    this.say(item, "has been cancelled");
    this.items = this.items.filter((other) => other !== item);
    this.changed();
    if (id) await this.call(item, "DELETE", `/${id}`).catch(() => {}); // else it is swept away after a day
  }

  again(item) {
    item.state = "waiting";
    item.stop = new AbortController();
    this.changed();
    this.run();
  }

  dismiss(item) {
    this.items = this.items.filter((other) => other !== item);
    this.changed();
  }

  say(item, message) {
    item.message = message;
    for (const view of this.views) view.say(`${item.file.name} ${message}`);
    this.changed();
  }

  changed() { for (const view of this.views) view.draw(); }
}

// Names the content well enough to go on with an upload after the page was reloaded: the same name, size, time and first bytes.
async function keyOf(file) {
  let hash = 2166136261;
  for (const byte of new Uint8Array(await file.slice(0, 65536).arrayBuffer())) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return `${file.lastModified}-${hash.toString(16)}`;
}

function size(bytes) {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

class View {
  constructor(root, queue) {
    this.root = root;
    this.queue = queue;
    this.list = root.querySelector(".files");
    this.rows = new Map();
    const input = root.querySelector("input");
    const drop = root.querySelector(".drop");
    input.onchange = () => { queue.add([...input.files]); input.value = ""; };
    drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
    drop.ondragleave = () => drop.classList.remove("over");
    drop.ondrop = (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      queue.add([...event.dataTransfer.files]);
    };
  }

  say(text) { this.root.querySelector(".said").textContent = text; }

  draw() {
    for (const [item, row] of this.rows) if (!this.queue.items.includes(item)) { row.remove(); this.rows.delete(item); }
    for (const item of this.queue.items) {
      if (!this.rows.has(item)) this.rows.set(item, this.list.appendChild(this.row(item)));
      this.update(this.rows.get(item), item);
    }
    if (this.queue.added.length) this.announce(this.queue.added.splice(0).at(-1));
  }

  row(item) {
    const row = document.createElement("li");
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: item.file.name });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const bar = Object.assign(document.createElement("progress"), { max: item.file.size || 1 });
    bar.setAttribute("aria-label", `Upload of ${item.file.name}`);
    const state = Object.assign(document.createElement("span"), { className: "state" });
    row.append(name, button, bar, state);
    return row;
  }

  update(row, item) {
    const [, button, bar, state] = row.children;
    const over = ["done", "failed"].includes(item.state);
    row.className = item.state;
    bar.hidden = over;
    bar.value = item.sent;
    state.textContent = item.state === "waiting" ? "waits for its turn" : over || item.message.startsWith("waits") || item.state === "checking"
      ? item.message : `${size(item.sent)} of ${size(item.file.size)} sent`;
    const retry = item.state === "failed" && item.sent < item.file.size;
    const text = item.state === "done" ? "Dismiss" : retry ? "Try again" : over ? "Dismiss" : "Cancel";
    if (button.textContent !== text) button.textContent = text;
    button.setAttribute("aria-label", `${text}: ${item.file.name}`);
    button.onclick = () => (over ? (retry ? this.queue.again(item) : this.queue.dismiss(item)) : this.queue.cancel(item));
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const queue = (window.askaloudUploads ??= new Queue());
  queue.configure(data);
  const root = parentElement.querySelector(".uploader");
  root.querySelector(".limits").textContent = data.limits;
  root.view ??= new View(root, queue);
  root.view.announce = (lectureId) => setTriggerValue("added", lectureId);
  queue.views.add(root.view);
  root.view.draw();
  return () => queue.views.delete(root.view);
}
