// A stream of server-sent events that comes back by itself.
//
// The browser resumes a broken connection with Last-Event-ID. What it does not do is done here: try
// again after an answer that is no stream (a server that starts, or is full), and give the
// connection up while the page is hidden, since a browser has only six for a host.

export type State = "connecting" | "open" | "reconnecting" | "ended";

const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 15_000;

export interface Options {
  /** Where to begin, or to go on after the event with this id. */
  address: (lastId: string) => string;
  /** What to do with the data of each kind of event. */
  handlers: Record<string, (data: unknown) => void>;
  /** Called after each beginning that did not resume the one before. */
  begun?: () => void;
}

export class Stream {
  #source: EventSource | undefined;
  #lastId = "";
  #delay = FIRST_DELAY;
  #timer: number | undefined;
  #wanted = false;
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  start(): void {
    this.#wanted = true;
    document.addEventListener("visibilitychange", this.#followVisibility);
    addEventListener("pagehide", this.#disconnect);
    addEventListener("pageshow", this.#followVisibility);
    this.#followVisibility();
  }

  stop(state?: State): void {
    this.#wanted = false;
    document.removeEventListener("visibilitychange", this.#followVisibility);
    removeEventListener("pagehide", this.#disconnect);
    removeEventListener("pageshow", this.#followVisibility);
    this.#disconnect();
    if (state) announce(state);
  }

  #followVisibility = (): void => {
    if (document.hidden) this.#disconnect();
    else if (this.#wanted && !this.#source) this.#connect();
  };

  #disconnect = (): void => {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = undefined;
  };

  #connect = (): void => {
    this.#disconnect();
    const source = new EventSource(this.#options.address(this.#lastId));
    this.#source = source;
    let resumes = false;
    source.addEventListener("open", () => {
      this.#delay = FIRST_DELAY;
      announce("open");
      if (!resumes) this.#options.begun?.();
    });
    source.addEventListener("error", () => {
      announce("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      this.#timer = setTimeout(this.#connect, this.#delay * (0.5 + Math.random() / 2));
      this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
    });
    for (const [kind, handle] of Object.entries(this.#options.handlers)) {
      source.addEventListener(kind, (event) => {
        this.#lastId = event.lastEventId;
        resumes = event.lastEventId !== "";
        handle(JSON.parse(event.data));
      });
    }
  };
}

function announce(state: State): void {
  document.dispatchEvent(new CustomEvent<State>("dtrain:connection", { detail: state }));
}
