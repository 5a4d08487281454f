// What all requests of htmx have in common: the session's token, and a word when one fails.

export interface RequestContext {
  sourceElement: Element;
  request: Request;
  response: { raw: Response };
  target: Element | null;
  select: string | null;
  selectOOB: string | null;
  text: string;
  fetch?: (address: string, request: Request) => Promise<Response>;
}

interface Request {
  action: string;
  method: string;
  headers: Record<string, string>;
  body: FormData;
}

const content = (name: string) =>
  document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? "";

document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  ctx.request.headers["X-CSRF-Token"] = content("csrf-token");
});

// When the session has ended, a fragment is the login page: the whole page goes there instead.
document.addEventListener("htmx:before:response", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  const { redirected, url } = ctx.response.raw;
  if (redirected && new URL(url).pathname === "/login") {
    event.preventDefault();
    location.reload();
  }
});

// A fragment that fails is fetched again with the next change; a form must not fail in silence.
document.addEventListener("htmx:error", (event) => {
  complain(event, "The server did not answer. Nothing was submitted; try again.");
});
document.addEventListener("htmx:response:error", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  const page = new DOMParser().parseFromString(ctx.text, "text/html");
  complain(event, page.querySelector("[data-detail]")?.textContent ?? "");
});
document.addEventListener("htmx:before:request", (event) => complain(event, ""));

function complain(event: Event, sentence: string): void {
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  ctx.sourceElement.querySelector("[data-notice]")?.replaceChildren(sentence);
}

/** Sends a request as `fetch` does, and tells which share of it is sent, which `fetch` cannot. */
export function send(
  address: string,
  request: Request,
  progress: (fraction: number) => void,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open(request.method, address);
    for (const [name, value] of Object.entries(request.headers)) call.setRequestHeader(name, value);
    call.upload.addEventListener("progress", ({ loaded, total }) => progress(loaded / total));
    call.addEventListener("error", () => reject(new TypeError("Failed to fetch")));
    call.addEventListener("load", () => resolve(answerOf(call)));
    call.send(request.body);
  });
}

function answerOf(call: XMLHttpRequest): Response {
  const lines = call.getAllResponseHeaders().trim().split("\r\n");
  const headers = lines.map((line): [string, string] => {
    const [name = "", ...value] = line.split(": ");
    return [name, value.join(": ")];
  });
  const body = call.status === 204 ? null : call.responseText;
  return new Response(body, { status: call.status, headers });
}
