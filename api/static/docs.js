"use strict";

const place = document.getElementById("swagger-ui");
const openapi = new URL(place.dataset.document, location.href);
const root = new URL(".", openapi).href.slice(0, -1); // where a proxy has mounted the service

SwaggerUIBundle({
  domNode: place,
  url: openapi.href,
  validatorUrl: null, // ask no other server whether the document is valid
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  requestInterceptor(request) {
    if (!request.loadSpec) {
      request.url = request.url.replace(location.origin, root); // the document's paths begin there
    }
    return request;
  },
});
