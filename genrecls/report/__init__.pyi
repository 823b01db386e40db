from .audit_pages import write_audit as write_audit
from .document import Report as Report
from .model_card import write_model_card as write_model_card
from .write import write_report as write_report
