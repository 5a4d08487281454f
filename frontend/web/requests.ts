// What all requests of htmx have in common: the session's token, and a word when one fails.

interface RequestContext {
  sourceElement: Element;
  request: { headers: Record<string, string> };
  response: { raw: Response };
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
  const { ctx } = (event as CustomEvent<{ ctx: RequestContext }>).detail;
  const place = document.querySelector("#notice");
  if (place && ctx.sourceElement.matches("form")) {
    place.textContent = "The server did not answer. Nothing was submitted; try again.";
  }
});
document.addEventListener("htmx:before:request", () => {
  document.querySelector("#notice")?.replaceChildren();
});
