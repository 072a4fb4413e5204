{{- define "plora.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* At most 40 characters: KubeRay allows a RayService 47, and components append to it. */ -}}
{{- define "plora.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "plora.name" .) .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (include "plora.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Selectors never change with a release: name, instance, component. (dict "root" $ "component" "daemon") */ -}}
{{- define "plora.selector" -}}
app.kubernetes.io/name: {{ include "plora.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "plora.labels" -}}
{{ include "plora.selector" . }}
app.kubernetes.io/part-of: plora
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels of a pod: without the chart's version, which would replace pods that did not change. */ -}}
{{- define "plora.podLabels" -}}
{{ include "plora.selector" . }}
app.kubernetes.io/part-of: plora
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .pods.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What lets an object that a hook made become one of the release, when the mode changes. */ -}}
{{- define "plora.owned" -}}
meta.helm.sh/release-name: {{ .Release.Name }}
meta.helm.sh/release-namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "plora.image" -}}
{{- $image := .root.Values.image -}}
{{- $registry := (.root.Values.global).imageRegistry | default $image.registry -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{- $digest := $image.digest -}}
{{- if .gpu }}{{ $tag = $image.gpuTag | default (printf "%s-cuda" $tag) }}{{ $digest = $image.gpuDigest }}{{ end -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end }}{{ $image.repository }}:{{ $tag }}{{ if $digest }}@{{ $digest }}{{ end }}
{{- end }}

{{- define "plora.pullSecrets" -}}
{{- with concat (.Values.image.pullSecrets | default list) ((.Values.global).imagePullSecrets | default list) }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "plora.account" -}}
{{- if .account.create }}{{ .account.name | default (printf "%s-%s" (include "plora.fullname" .root) .component) }}{{ else }}{{ .account.name | default "default" }}{{ end }}
{{- end }}

{{- define "plora.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "plora.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Where pods go: (dict "root" $ "pods" .Values.daemon "component" "daemon") */ -}}
{{- define "plora.placement" -}}
{{- with .pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pods.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .pods.topologySpreadConstraints }}
  {{- toYaml .pods.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "plora.selector" . | nindent 8 }}
{{- end }}
{{- with .pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pods.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "plora.embedded" -}}
{{- if not .Values.database.existingSecret }}true{{ end }}
{{- end }}

{{- /* Whether a switch of metrics is on: (dict "root" $ "enabled" ... "api" "monitoring.coreos.com/v1/ServiceMonitor" "name" "...") */ -}}
{{- define "plora.switch" -}}
{{- $known := .root.Capabilities.APIVersions.Has .api -}}
{{- if and (eq (toString .enabled) "true") (not $known) }}
{{- fail (printf "%s is true, but this cluster does not know %s: install the Prometheus operator first, or set %s to auto" .name .api .name) }}
{{- end }}
{{- if and $known (ne (toString .enabled) "false") }}true{{ end }}
{{- end }}

{{- /* Environment that names the database; `secret` is the daemon's or the migration's. */ -}}
{{- define "plora.databaseEnv" -}}
{{- $database := .root.Values.database -}}
{{- if $database.componentKeys.host }}
- name: PLORA_DATABASE_URL
  value: postgresql://
{{- range $name, $key := dict "PGHOST" $database.componentKeys.host "PGPORT" $database.componentKeys.port "PGDATABASE" $database.componentKeys.name "PGUSER" $database.componentKeys.user "PGPASSWORD" $database.componentKeys.password }}
{{- if $key }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $.secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- else }}
- name: PLORA_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ $database.uriKey }}
{{- end }}
{{- with $database.sslMode }}
- name: PGSSLMODE
  value: {{ . }}
{{- end }}
{{- end }}

{{- /* Every setting of a group as an environment line: numbers as they were given, nothing for what is empty. */ -}}
{{- define "plora.settings" -}}
{{- range $name, $value := .values }}
{{- $variable := printf "%s_%s" $.prefix (regexReplaceAll "([A-Z])" $name "_${1}" | upper) }}
{{- if kindIs "map" $value }}
{{- include "plora.settings" (dict "values" $value "prefix" $variable) }}
{{- else if kindIs "string" $value }}
{{- if ne $value "" }}
{{ $variable }}: {{ $value | quote }}
{{- end }}
{{- else if not (kindIs "invalid" $value) }}
{{ $variable }}: {{ toJson $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What the daemon's pod is told: the broker is the consumers' business, and their files are not here. */ -}}
{{- define "plora.daemonSettings" -}}
{{ include "plora.chartSettings" . | trim }}
{{ include "plora.settings" (dict "values" (omit .Values.settings "ingest") "prefix" "PLORA") | trim }}
{{- end }}

{{- /* What the chart itself tells the daemon; helm/generate/settings.py lists why. */ -}}
{{- define "plora.chartSettings" -}}
PLORA_HOST: "0.0.0.0"
PLORA_PORT: "8470"
PLORA_DATA_DIR: /data/plora
PLORA_KEYS_DIR: {{ if .Values.keys.existingSecret }}/keys{{ else }}/keys/ring{{ end }}
PLORA_TRAINER: ray
{{- if and (include "plora.embedded" .) (not .Values.settings.exportUrl) }}
PLORA_EXPORT_URL: {{ if .Values.keys.existingSecret }}/data{{ else }}/keys{{ end }}/exports
{{- end }}
{{- if eq .Values.ray.mode "kuberay" }}
PLORA_TRAINER_URL: http://{{ include "plora.fullname" . }}-serve-svc:8000
{{- else if eq .Values.ray.mode "external" }}
PLORA_TRAINER_URL: {{ .Values.ray.url }}
{{- end }}
PLORA_REPLICAS: {{ max .Values.ray.trainer.replicas .Values.ray.trainer.mostReplicas | quote }}
{{- if not (include "plora.embedded" .) }}
PLORA_DATABASE_MIGRATE: never
{{- end }}
{{- if .Values.keys.vaultToken.existingSecret }}
PLORA_VAULT_TOKEN_FILE: /vault/{{ .Values.keys.vaultToken.key }}
{{- end }}
{{- end }}
