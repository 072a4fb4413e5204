{{- /* The pod of a migration: (dict "root" $ "component" "migration" "pods" .Values.migrations "account" ...) */ -}}
{{- define "plora.migrationPod" -}}
metadata:
  labels:
    {{- include "plora.podLabels" . | nindent 4 }}
  {{- with .pods.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "plora.pullSecrets" .root | indent 2 }}
  serviceAccountName: {{ include "plora.account" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  securityContext:
    {{- include "plora.podSecurity" .root | nindent 4 }}
  {{- include "plora.placement" . | nindent 2 }}
  containers:
    {{- include "plora.migrationContainer" .root | nindent 4 }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- with .pods.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* What migrates: alone in a Job, or before the daemon in its pod, which has the volume tmp. */ -}}
{{- define "plora.migrationContainer" -}}
{{- $pods := .Values.migrations -}}
- name: migrate
  image: {{ include "plora.image" (dict "root" .) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [migrate]
  env:
    - name: HOME
      value: /tmp
    - name: PLORA_LOG_FORMAT
      value: {{ .Values.settings.logFormat }}
    {{- include "plora.databaseEnv" (dict "root" . "secret" ($pods.existingSecret | default .Values.database.existingSecret)) | nindent 4 }}
    {{- with $pods.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  securityContext:
    {{- include "plora.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml $pods.resources | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    {{- with $pods.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
