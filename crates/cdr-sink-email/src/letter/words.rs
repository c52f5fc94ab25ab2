//! The words of mails. English stands in code and templates, and is the key under which the others are found here.

use cdr_core::Language;

/// An English word of ours in another language; itself where it has no translation.
pub(super) fn in_language(english: &str, language: Language) -> &str {
    let chinese = || CHINESE.iter().find(|(known, _)| *known == english).map(|&(_, chinese)| chinese);
    match language {
        Language::En => english,
        Language::Zh => chinese().unwrap_or(english),
    }
}

const CHINESE: &[(&str, &str)] = &[
    // What a call is, a line each.
    ("Session", "会话"),
    ("Status", "状态"),
    ("What", "内容"),
    ("Direction", "方向"),
    ("inbound", "呼入"),
    ("outbound", "呼出"),
    ("Caller", "主叫"),
    ("Callee", "被叫"),
    ("Customer", "客户"),
    ("Agent", "座席"),
    ("AI agent", "AI 座席"),
    ("Skill group", "技能组"),
    ("group", "技能组"),
    ("Started", "开始"),
    ("Queued", "进入排队"),
    ("Rang", "振铃"),
    ("Answered", "接听"),
    ("Ended", "结束"),
    ("Recorded", "录音时间"),
    ("Waited", "等待时长"),
    ("Rang for", "振铃时长"),
    ("Talked", "通话时长"),
    ("h", "小时"),
    ("min", "分"),
    ("s", "秒"),
    ("IVR keys", "IVR 按键"),
    ("Transfers", "转接次数"),
    ("Hung up by", "挂断方"),
    ("Remark", "备注"),
    ("Satisfaction", "满意度"),
    ("Of", "所属"),
    ("Recording", "录音"),
    ("a recording is ready", "录音已生成"),
    ("a caller left a message", "客户留言"),
    ("Routes", "路由"),
    ("Push", "推送"),
    ("Received", "收到"),
    ("Position", "位置"),
    ("of spool", "· 队列"),
    ("Spool", "队列"),
    ("Replay", "重放"),
    ("yes: an operator sent it again", "是：由操作员重新发送"),
    ("Find it with", "查询命令"),
    ("Find one with", "查询命令"),
    // Several of them.
    ("Began", "开始时间"),
    ("others", "其他"),
    ("replay", "重放"),
    ("session", "会话"),
    ("calls", "通会话"),
    ("since", "自"),
    ("Look at it", "查看详情"),
    // Of an incident.
    ("{} in all", "累计 {}"),
    ("This goes on since", "持续自"),
    ("to", "至"),
    ("No such call came for", "已无此类会话，时长"),
    ("Every one of them was named in the mails before.", "每一通会话均已在此前邮件中列出。"),
    (
        "This mail was held back: no more may leave in an hour. Nothing was left out.",
        "已达每小时邮件上限，本邮件延后发出，未遗漏任何会话。",
    ),
    // The gateway's own.
    ("over", "已恢复"),
    ("and", "另有"),
    ("more", "条"),
    ("When", "时间"),
    ("Kind", "类别"),
    ("About", "对象"),
    ("the gateway itself", "网关自身告警"),
    ("an alert that this version cannot read", "此版本无法识别的告警"),
    ("This mail was written by cdr-gateway.", "本邮件由 cdr-gateway 自动发送。"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_templates_has_a_translation() {
        let templates = [
            include_str!("../../templates/text.txt"),
            include_str!("../../templates/mail.html"),
            include_str!("../../templates/subject.txt"),
        ];
        for template in templates {
            for part in template.split("\"|say").take(template.matches("\"|say").count()) {
                let word = part.rsplit('"').next().unwrap();
                assert!(CHINESE.iter().any(|(english, _)| *english == word), "{word}");
            }
        }
    }
}
