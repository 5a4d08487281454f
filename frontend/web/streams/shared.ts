// The streams of all tabs of a browser: tabs that want the same share one connection.

import { contains, earlier, type Place } from "./place";
import { Source, type Message, type State } from "./source";

/** What a tab says. */
export type Order = { order: "follow"; address: string; place: Place | undefined } | { order: "leave" };
/** What a tab is told. */
export type News = { news: "told"; message: Message } | { news: "state"; state: State } | { news: "begun" };

/** A tab, as far as it matters here. */
export interface Follower {
  tell: (news: News) => void;
}

class SharedSource {
  readonly followers = new Set<Follower>();
  readonly #source: Source;
  /** What a job is now is told once, but everyone who comes later must know it too. */
  #job: Message | undefined;

  constructor(
    readonly address: string,
    place: Place | undefined,
    ended: (shared: SharedSource) => void,
  ) {
    this.#source = new Source(address, place, {
      told: (message) => {
        if (message.kind === "job") this.#job = message;
        // Nothing follows, and whoever comes now is to hear it anew.
        if (message.kind === "end") ended(this);
        this.#tell({ news: "told", message });
      },
      state: (state) => this.#tell({ news: "state", state }),
      begun: () => this.#tell({ news: "begun" }),
    });
  }

  /** Whether it can bring a tab all that follows a place. */
  suits(address: string, place: Place | undefined): boolean {
    if (address !== this.address) return false;
    const here = this.#source.place;
    return !place?.attempt || !here?.attempt || place.attempt === here.attempt;
  }

  join(follower: Follower, place: Place | undefined): void {
    this.followers.add(follower);
    const here = this.#source.place;
    if (place && here && !contains(here, place)) {
      this.#source.goBack(earlier(here, place)); // the others skip what they have
      return;
    }
    follower.tell({ news: "state", state: this.#source.state });
    if (this.#source.state !== "open") return;
    follower.tell({ news: "begun" });
    if (place && this.#job) follower.tell({ news: "told", message: this.#job });
  }

  close(): void {
    this.#source.close();
  }

  #tell(news: News): void {
    for (const follower of this.followers) follower.tell(news);
  }
}

export class SharedStreams {
  readonly #sources = new Set<SharedSource>();

  follow(follower: Follower, address: string, place: Place | undefined): void {
    this.leave(follower);
    let shared = [...this.#sources].find((one) => one.suits(address, place));
    if (!shared) {
      shared = new SharedSource(address, place, (ended) => this.#close(ended));
      this.#sources.add(shared);
    }
    shared.join(follower, place);
  }

  leave(follower: Follower): void {
    for (const shared of this.#sources) {
      if (shared.followers.delete(follower) && !shared.followers.size) this.#close(shared);
    }
  }

  #close(shared: SharedSource): void {
    this.#sources.delete(shared);
    shared.close();
  }
}
