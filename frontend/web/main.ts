// Everything that runs on a page: htmx for fragments, and the custom elements.

import "htmx.org";
import "./elements/bundle-picker";
import "./elements/compare-view";
import "./elements/connection-status";
import "./elements/copy-button";
import "./elements/job-list";
import "./elements/job-stream";
import "./elements/job-watch";
import "./elements/list-keys";
import "./elements/live-time";
import "./elements/log-view";
import "./elements/metric-chart";
import "./elements/overview-stream";
import "./elements/tab-state";
import "./elements/upload-progress";
import "./elements/worker-history";
import "./requests";
